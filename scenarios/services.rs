use nixvm_test::prelude::*;

/// The service has run, and left what it is for.
#[scenario(configuration = "services.nix")] // beside this file
async fn a_service_of_systemd(alice: Session) -> Result {
    alice.succeed("systemctl is-active --wait greeting.service").await?;
    assert_eq!(alice.succeed("cat /run/greeting").await?.text(), "hello from systemd\n");
    Ok(())
}

/// nginx answers on port 80.
#[scenario(configuration = "services.nix")]
async fn nginx_answers(alice: Session) -> Result {
    // It may still be starting when the login prompt is there.
    let page = alice
        .succeed("curl --silent --show-error --fail --retry 20 --retry-connrefused http://localhost/")
        .await?;
    assert_eq!(page.text(), "hello from nginx");

    let status = alice.succeed("curl --silent --head http://localhost/").await?;
    assert!(status.lines().any(|line| line.starts_with("HTTP/1.1 200")), "{}", status.text());
    Ok(())
}

nixvm_test::main!();
