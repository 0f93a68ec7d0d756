use super::*;

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("fit")
}

fn wish() -> Wish {
    Wish {
        identity: id("ana@example.com"),
        groups: BTreeSet::new(),
        issuer: None,
        claims: BTreeMap::new(),
        target: id("orders"),
        profile: id("read-write"),
        window: Duration::from_mins(60),
        reason: Some("BUG-812".to_owned()),
        ticket: None,
        max_sessions: 4,
        break_glass: false,
    }
}

#[test]
fn two_approvers_make_a_grant_of_what_both_agree_to() {
    let now = Timestamp::UNIX_EPOCH;
    let later = Timestamp::from_second(3600).expect("a time");
    let request = Request::waiting(RequestId::from_random([1; 10]), wish(), 2, later, now);
    let profiles = [id("read-only"), id("read-write")];
    let approve = |by: &str, minutes| Approve {
        by: id(by),
        comment: None,
        window: Some(Duration::from_mins(minutes)),
        profile: None,
    };
    let grant = GrantId::from_random([2; 10]);
    let first = request
        .pending(now)
        .expect("pending")
        .approve(approve("bo", 40), &profiles, grant.clone(), now);
    let first = first.expect("approved");
    assert!(!first.granted);
    let twice = first
        .request
        .pending(now)
        .expect("pending")
        .approve(approve("bo", 30), &profiles, grant.clone(), now);
    assert_eq!(twice, Err(IllegalStep::Twice(id("bo"))));
    let second = first
        .request
        .pending(now)
        .expect("pending")
        .approve(approve("cy", 40), &profiles, grant.clone(), now);
    let second = second.expect("approved");
    assert!(second.granted);
    assert_eq!(second.request.wish.window, Duration::from_mins(40));
    assert_eq!(second.request.grant(), Some(&grant));
    assert_eq!(
        second.request.pending(now).err(),
        Some(IllegalStep::Settled(Status::Approved))
    );
}
