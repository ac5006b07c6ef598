//! Three nodes: a virtual address, a replicated database, and the crash of the node that has both.

use nixvm_test::prelude::*;

/// The address that one of the nodes has.
const VIRTUAL: &str = "192.168.1.100";

/// The virtual address moves, and what was committed is on the other nodes and can be added to.
#[scenario(configuration = "node.nix", from = logged_in("alice", "test"), timeout = "10m")]
async fn a_service_survives_the_crash_of_a_node(one: Machine, three: Machine, two: Machine) -> Result {
    for node in [&one, &three, &two] {
        node.wait_for_unit("postgresql").await?;
        node.wait_for_unit("keepalived").await?;
    }
    // Equal priorities: the highest address has the virtual one (RFC 9568, 6.4.3), and that is the third node's.
    let [first, second, third] = [&one, &three, &two];
    third.wait_until_succeeds(format!("ip -4 address show eth1 | grep -F {VIRTUAL}")).await?;
    // Each was booted alone, and gives the address up when it hears the third.
    for node in [first, second] {
        node.wait_until_fails(format!("ip -4 address show eth1 | grep -F {VIRTUAL}")).await?;
    }
    first.wait_until_succeeds(format!("ping -c 1 -W 2 {VIRTUAL}")).await?;

    // The others copy the database of the node with the virtual address.
    sql(third, "CREATE TABLE notes (text text); INSERT INTO notes VALUES ('before')").await?;
    nixvm_test::tokio::try_join!(replicate(first, "two"), replicate(second, "two"))?;
    sql(third, "INSERT INTO notes VALUES ('replicated')").await?;
    for node in [first, second] {
        node.wait_until_succeeds(query("SELECT count(*) = 2 FROM notes", "t")).await?;
    }

    third.crash().await;

    // The second highest address has it now, and tells the others (gratuitous ARP).
    second.wait_until_succeeds(format!("ip -4 address show eth1 | grep -F {VIRTUAL}")).await?;
    sql(second, "SELECT pg_promote()").await?;
    first
        .wait_until_succeeds(format!(
            "psql -h {VIRTUAL} -U postgres -c \"INSERT INTO notes VALUES ('after')\""
        ))
        .await?;
    let notes =
        first.succeed(format!("psql -h {VIRTUAL} -U postgres -At -c 'SELECT text FROM notes'")).await?;
    assert_eq!(notes.text(), "before\nreplicated\nafter\n");
    Ok(())
}

/// Makes a node a copy of the primary that follows it.
async fn replicate(node: &Machine, primary: &str) -> Result {
    let data = "/var/lib/postgresql/15";
    node.succeed(format!(
        "cd /; systemctl stop postgresql; rm -rf {data}; \
         setpriv --reuid=postgres --regid=postgres --clear-groups \
         pg_basebackup -h {primary} -U postgres -D {data} -R -X stream -c fast; systemctl start postgresql"
    ))
    .await
    .map(drop)
}

async fn sql(node: &Machine, text: &str) -> Result {
    node.succeed(format!("cd /; setpriv --reuid=postgres --clear-groups psql -c \"{text}\"")).await.map(drop)
}

/// Returns a command that succeeds if a query has this answer.
fn query(text: &str, answer: &str) -> String {
    format!("cd /; test \"$(setpriv --reuid=postgres --clear-groups psql -At -c '{text}')\" = {answer}")
}

nixvm_test::main!();
