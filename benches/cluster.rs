//! Three machines that are cloned at one moment, beside a clone of one machine and beside booting the three.
//!
//! ```text
//! cargo bench --bench cluster                    # about 3 minutes
//! cargo bench --bench cluster -- --rounds 50
//! cargo bench --bench cluster -- --vm ./result   # a VM that is built already
//! ```

mod measuring;

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use measuring::{given, median};
use nixvm_test::Result;
use nixvm_test::internals::template::{self, Before, Member, Moment, Together};
use nixvm_test::internals::{BuiltVm, Events, networked};
use nixvm_test::machine::Machine;

const NAMES: [&str; 3] = ["one", "two", "three"];

#[tokio::main]
async fn main() -> Result {
    let rounds: usize = given("--rounds").and_then(|count| count.parse().ok()).unwrap_or(20);
    let events = measuring::events();
    let vm = measuring::vm("configuration.nix", &events).await?;
    let (alone, together) = (alice(), together());

    let begun = Instant::now();
    let booted = together.boot_cold(members(&vm, &NAMES, &events)?).await?;
    let cold = begun.elapsed().as_secs_f64();
    end(booted).await;

    // Made now, if they are not there.
    end(vec![one(&vm, &alone, &events).await?]).await;
    end(template::machines(members(&vm, &NAMES, &events)?, &together, &events).await?).await;

    let (mut of_one, mut of_three) = (vec![], vec![]);
    // In turn, since a host is not as fast all the time.
    for _ in 0..rounds {
        let begun = Instant::now();
        let machine = one(&vm, &alone, &events).await?;
        machine.succeed("true").await?;
        of_one.push(begun.elapsed().as_secs_f64());
        end(vec![machine]).await;

        let begun = Instant::now();
        let machines = template::machines(members(&vm, &NAMES, &events)?, &together, &events).await?;
        for machine in &machines {
            machine.succeed("true").await?;
        }
        of_three.push(begun.elapsed().as_secs_f64());
        end(machines).await;
    }

    println!("\n{}\n", measuring::machine_name());
    let (of_one, of_three) = (median(&of_one), median(&of_three));
    println!("| medians of {rounds} | | |\n|---|---:|---:|");
    println!("| one machine: a clone, first answer | {:.0} ms | |", of_one * 1000.0);
    println!(
        "| three machines at one moment: clones, first answers of all | {:.0} ms | {:.1} × that |",
        of_three * 1000.0,
        of_three / of_one
    );
    println!(
        "| the three, booted, logged in and connected | {cold:.1} s | {:.0} × the clones |",
        cold / of_three
    );
    Ok(())
}

fn alice() -> Moment {
    Moment::LoggedIn { user: "alice".to_owned(), password: "test".to_owned() }
}

fn together() -> Together {
    Together {
        from: Before::Each(alice()),
        name: "connected".to_owned(),
        machines: NAMES.to_vec(),
        step: connected,
    }
}

/// Each machine reaches the next one.
fn connected(machines: &mut [Machine]) -> Pin<Box<dyn Future<Output = Result> + Send + '_>> {
    Box::pin(async move {
        // The last part of an address is the machine's place in the alphabet.
        for (machine, next) in machines.iter().zip([3, 2, 1]) {
            machine.wait_until_succeeds(format!("ping -c 1 -W 2 192.168.1.{next}")).await?;
        }
        Ok(())
    })
}

fn members(vm: &BuiltVm, names: &[&str], events: &Events) -> Result<Vec<Member>> {
    // Each network would say again how its machines get their addresses.
    let options = networked(vm, names, &Events::none())?.into_iter();
    Ok(options.map(|options| Member { vm: vm.clone(), options: options.events(events.clone()) }).collect())
}

/// Returns a clone of one machine, which is on a network, too.
async fn one(vm: &BuiltVm, moment: &Moment, events: &Events) -> Result<Machine> {
    let Some(options) = networked(vm, &NAMES[..1], &Events::none())?.pop() else {
        return Err("no machine".into());
    };
    template::machine(vm, options, moment, events).await
}

async fn end(machines: Vec<Machine>) {
    for machine in machines {
        machine.stop().await;
    }
}
