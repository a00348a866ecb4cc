//! `quotary grant …`

use quotary_common::wire::{GrantView, ListGrants};

use crate::exit::Failure;
use crate::now_ms;
use crate::present::{self, Align, Table};
use crate::session::Session;

/// Lists all grants that hold capacity.
pub(crate) async fn list(session: &Session, json: bool) -> Result<(), Failure> {
    let grants = session.ask::<ListGrants>(&[]).await?;
    if json { present::json(&grants) } else { present::print_table(&table(&grants, now_ms())) }
}

fn table(grants: &[GrantView], now_ms: u64) -> Table {
    let columns = [
        ("GRANT", Align::Left),
        ("HOST", Align::Left),
        ("TENANT", Align::Left),
        ("APPLICATION", Align::Left),
        ("CLASS", Align::Left),
        ("GRANTED", Align::Left),
        ("ASKED", Align::Left),
        ("HELD UNTIL", Align::Right),
        ("WHY THIS SIZE", Align::Left),
    ];
    let mut table = Table::new(&columns, "no grants");
    for grant in grants {
        table.row([
            grant.id.clone(),
            grant.host.to_string(),
            grant.tenant.clone(),
            grant.application.clone(),
            grant.class.to_string(),
            present::resources(&grant.resources),
            present::resources(&grant.requested),
            present::age(grant.held_until_ms, now_ms),
            grant.why.clone(),
        ]);
    }
    table
}
