use nixvm_test::prelude::*;

/// A window that is waited for is seen as it opens; one that never comes is an error that names those there are.
#[scenario(configuration = "desktop.nix")]
async fn windows(machine: Machine) -> Result {
    machine.login("alice", "test").await?;
    machine.wait_for_x().await?;
    assert_eq!(machine.get_window_names().await?, Vec::<String>::new());

    let hurry = machine.within(Duration::from_millis(500));
    let nothing = hurry.wait_for_window("notes").await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Timeout, "{nothing}");

    let (opened, started) =
        nixvm_test::tokio::join!(machine.wait_for_window("notes"), machine.start_job("terminal"));
    started?;
    assert_eq!(opened?, "of \"alice\": notes");
    assert!(machine.get_window_names().await?.contains(&"of \"alice\": notes".to_owned()));

    let never = hurry.wait_for_window(Pattern::regex("^letters$")?).await.unwrap_err();
    assert_eq!(never.kind(), ErrorKind::Timeout, "{never}");
    assert!(never.to_string().contains("of \"alice\": notes"), "{never}");

    machine.stop_job("terminal").await?;
    machine.stop_job("display").await?;
    let gone = machine.get_window_names().await.unwrap_err();
    assert!(gone.to_string().contains("unable to open display"), "{gone}");
    let dark = hurry.wait_for_window("notes").await.unwrap_err();
    assert!(dark.to_string().contains("unable to open display"), "{dark}");
    Ok(())
}

nixvm_test::main!();
