//! Three nodes with a replicated database. The primary is cut off, and another node takes over. What the database
//! acknowledged has to be kept.

use nixvm_test::prelude::*;

const DATA: &str = "/var/lib/postgresql/15";

/// The primary acknowledges what another node has: nothing is lost.
#[scenario(configuration = "node.nix", from = cluster, timeout = "10m")]
async fn a_synchronous_replica_keeps_what_was_acknowledged(
    one: Machine,
    two: Machine,
    three: Machine,
    network: Network,
) -> Result {
    for node in [&one, &three, &two] {
        sql(node, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'").await?;
        sql(node, "SELECT pg_reload_conf()").await?;
    }
    what_was_acknowledged_is_kept(&one, [&two, &three], &network).await
}

/// The primary acknowledges what it alone has, and that is lost. The same check finds it.
#[scenario(configuration = "node.nix", from = cluster, timeout = "10m")]
async fn an_asynchronous_replica_loses_what_was_acknowledged(
    one: Machine,
    two: Machine,
    three: Machine,
    network: Network,
) -> Result {
    let broken = what_was_acknowledged_is_kept(&one, [&two, &three], &network).await.unwrap_err();
    assert!(broken.to_string().contains("lost what was acknowledged: [\"cut off\"]"), "{broken}");
    Ok(())
}

/// `two` and `three` follow `one`.
#[checkpoint(from = logged_in("alice", "test"))]
async fn cluster(one: &mut Machine, two: &mut Machine, three: &mut Machine) -> Result {
    for node in [&*one, two, three] {
        node.wait_for_unit("postgresql").await?;
    }
    sql(one, "CREATE TABLE notes (text text)").await?;
    nixvm_test::tokio::try_join!(follow(two, "one"), follow(three, "one"))?;
    let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    one.wait_until_succeeds(format!("test \"$({})\" = 2", psql(streaming))).await.map(drop)
}

/// Writes before, in and after a partition that cuts the primary off.
async fn what_was_acknowledged_is_kept(
    primary: &Machine,
    replicas: [&Machine; 2],
    network: &Network,
) -> Result {
    let mut acknowledged = vec!["before"];
    write(primary, "before").await?;

    network.partition(primary, &replicas)?;
    if primary.execute(format!("timeout 10 {}", psql("INSERT INTO notes VALUES ('cut off')"))).await?.status()
        == 0
    {
        acknowledged.push("cut off");
    }
    // The replica that has received more becomes the primary.
    let [first, second] = [received(replicas[0]).await?, received(replicas[1]).await?];
    let [new, other] = if first >= second { replicas } else { [replicas[1], replicas[0]] };
    sql(new, "SELECT pg_promote()").await?;
    sql(other, &format!("ALTER SYSTEM SET primary_conninfo = 'host={} user=postgres'", new.name())).await?;
    sql(other, "SELECT pg_reload_conf()").await?;
    write(new, "after").await?;
    acknowledged.push("after");

    network.heal_all()?;
    // The old primary has to follow the new one: two primaries would be worse.
    follow(primary, new.name()).await?;
    for node in [new, other, primary] {
        node.wait_until_succeeds(format!("{} | grep -x after", psql("SELECT text FROM notes"))).await?;
        let rows = node.succeed(psql("SELECT text FROM notes")).await?;
        let lost: Vec<&str> = acknowledged
            .iter()
            .copied()
            .filter(|note| !rows.text().lines().any(|row| row == *note))
            .collect();
        if !lost.is_empty() {
            return Err(format!("{} lost what was acknowledged: {lost:?}", node.name()).into());
        }
    }
    Ok(())
}

/// Writes a note, which has to be acknowledged.
async fn write(node: &Machine, note: &str) -> Result {
    sql(node, &format!("INSERT INTO notes VALUES ('{note}')")).await
}

/// Returns how much a replica has received.
async fn received(replica: &Machine) -> Result<u64> {
    let bytes = replica.succeed(psql("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')")).await?;
    Ok(bytes.text().trim().parse()?)
}

/// Makes a node a copy of the primary that follows it.
async fn follow(node: &Machine, primary: &str) -> Result {
    node.succeed(format!(
        "cd /; systemctl stop postgresql; rm -rf {DATA}; {POSTGRES} \
         pg_basebackup -h {primary} -U postgres -D {DATA} -R -X stream -c fast; systemctl start postgresql"
    ))
    .await
    .map(drop)
}

const POSTGRES: &str = "setpriv --reuid=postgres --regid=postgres --clear-groups";

/// Returns the command that runs a statement and prints what it returns.
fn psql(statement: &str) -> String {
    format!("{POSTGRES} psql -At -c \"{statement}\"")
}

async fn sql(node: &Machine, statement: &str) -> Result {
    node.succeed(format!("cd /; {}", psql(statement))).await.map(drop)
}

nixvm_test::main!();
