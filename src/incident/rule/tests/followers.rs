//! Which other teams hear of an acknowledgement and a close.

use super::*;

#[test]
fn a_close_is_heard_once_by_each_other_team_that_was_paged_and_an_acknowledgement_each_time() {
    let mut world = World::new();
    let open = of("TheHive", "hive@hive.example", "~1");
    assert_eq!(world.take(&open).followers, []);
    world.rows[0].goes_elsewhere("ops");
    world.rows[0].goes_elsewhere("soc");
    world.rows[0].goes_elsewhere("ops");
    let hears = [("ops".to_owned(), "~1".to_owned())];
    let acknowledges = Mail { status: Status::Acknowledged, ..open.clone() };
    assert_eq!(world.take(&acknowledges).followers, hears);
    assert_eq!(world.take(&acknowledges).followers, hears);
    assert_eq!(world.take(&open).followers, [], "the others were told of an open");
    assert_eq!(world.take(&open.clone().closes()).followers, hears);
    assert_eq!(world.take(&open.closes()).followers, []);
}
