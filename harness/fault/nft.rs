//! Rules of our own in a node's network namespace: one nftables table a fault, put there and taken
//! away as a whole, whose counters tell whether packets met a rule.

use super::process::checked;
use crate::cluster::{ClusterError, Command, Node};

/// Before what translates addresses (-100) and what filters (0), after what tracks connections
/// (-200): packets still have the addresses that their sender chose.
/// <https://wiki.nftables.org/wiki-nftables/index.php/Netfilter_hooks>
pub(super) const PRIORITY: i32 = -150;

/// A table: its family and name, such as `inet outage_x`.
pub(super) type Table<'a> = &'a str;

/// Checks that a node has nftables and not yet this table.
pub(super) async fn absent(node: &dyn Node, table: Table<'_>) -> Result<(), ClusterError> {
    if listed(node, table).await? {
        let id = node.id();
        return Err(ClusterError::new(format!("{id} has the nftables table {table} already")));
    }
    Ok(())
}

/// Puts the table with these chains in place, in one step.
pub(super) async fn put(
    node: &dyn Node,
    table: Table<'_>,
    chains: &str,
) -> Result<(), ClusterError> {
    let text = format!("table {table} {{\n{chains}}}\n");
    let command = Command::new(["nft", "-f", "-"]).stdin(text);
    checked(node, command, &format!("put the nftables table {table}")).await.map(drop)
}

/// Takes the table away if it is there, and reads back that it is not.
pub(super) async fn take_away(node: &dyn Node, table: Table<'_>) -> Result<(), ClusterError> {
    // Adding what is there changes nothing; deleting what is not there would be an error.
    let text = format!("add table {table}\ndelete table {table}\n");
    let command = Command::new(["nft", "-f", "-"]).stdin(text);
    checked(node, command, &format!("take the nftables table {table} away")).await?;
    absent(node, table).await
}

/// How many packets the table's rules have met; nothing if there is no such table.
pub(super) async fn packets(
    node: &dyn Node,
    table: Table<'_>,
) -> Result<Option<u64>, ClusterError> {
    let argv = ["nft", "list", "table"].into_iter().chain(table.split(' '));
    let output = node.run(Command::new(argv)).await?;
    Ok((output.code == 0).then(|| counted(&output.text())))
}

async fn listed(node: &dyn Node, table: Table<'_>) -> Result<bool, ClusterError> {
    let command = Command::new(["nft", "list", "tables"]);
    let tables = checked(node, command, "list the nftables tables").await?.text();
    Ok(tables.lines().any(|line| line.strip_prefix("table ") == Some(table)))
}

/// The sum over all rules of a listing.
fn counted(listing: &str) -> u64 {
    let after = listing.split("counter packets ").skip(1);
    after.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_a_listing_are_added() {
        let listing = "table inet outage_x {\n\tchain out {\n\t\ttype filter hook output priority \
            -150; policy accept;\n\t\tip daddr 10.77.0.11 counter packets 132 bytes 8979 drop\n\t\t\
            ip daddr 10.77.0.12 counter packets 3 bytes 180 reject with tcp reset\n\t}\n}";
        assert_eq!(counted(listing), 135);
        assert_eq!(counted("table inet x {\n}"), 0);
    }
}
