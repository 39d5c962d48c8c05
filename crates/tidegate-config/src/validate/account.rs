//! The user and group of a child: names are looked up here, once, so that a start cannot fail on
//! one that does not exist.

use nix::unistd::{Group, User};

use super::section::Section;
use crate::{
    decode::{Account, Field},
    problem::Mismatch,
};

/// User and group by number, each `None` where the child keeps that of the proxy.
pub(super) fn check(
    section: &Section<'_>,
    user: Field<Account>,
    group: Field<Account>,
) -> Option<(Option<u32>, Option<u32>)> {
    let user = resolve(section, "user", user, find_user);
    let group = resolve(section, "group", group, find_group);
    let own = section.context.around;
    let user = user.and_then(|user| match user {
        Some(user) => {
            may_become(section, "user", "user", (user.id, own.user())).map(|_| Some(user))
        }
        None => Some(None),
    });
    let group = match group? {
        Some(group) => may_become(section, "group", "group", (group.id, own.group())).map(Some),
        None => match user.as_ref()? {
            Some(user) => primary_group(section, user).map(Some),
            None => Some(None),
        },
    };
    Some((user?.map(|user| user.id), group?))
}

/// Somebody the system knows, or a number that it does not.
struct Found {
    id: u32,
    /// Of a user that the system knows.
    primary_group: Option<u32>,
}

fn resolve(
    section: &Section<'_>,
    name: &str,
    field: Field<Account>,
    find: fn(Account) -> Result<Found, Mismatch>,
) -> Option<Option<Found>> {
    let Some(account) = field.optional()? else { return Some(None) };
    find(account).map_or_else(|mismatch| section.refuse(name, mismatch), |found| Some(Some(found)))
}

fn find_user(account: Account) -> Result<Found, Mismatch> {
    let known =
        |user: User| Found { id: user.uid.as_raw(), primary_group: Some(user.gid.as_raw()) };
    match account {
        Account::Name(name) => match User::from_name(&name) {
            Ok(Some(user)) => Ok(known(user)),
            // A variable holds text, whatever it means.
            Ok(None) if is_number(&name) => find_user(number(&name)?),
            Ok(None) => Err(unknown("user")),
            Err(error) => Err(cannot_ask("user", error)),
        },
        // A number may belong to nobody: containers run as such.
        Account::Id(id) => match User::from_uid(id.into()) {
            Ok(Some(user)) => Ok(known(user)),
            Ok(None) => Ok(Found { id, primary_group: None }),
            Err(error) => Err(cannot_ask("user", error)),
        },
    }
}

fn find_group(account: Account) -> Result<Found, Mismatch> {
    match account {
        Account::Name(name) => match Group::from_name(&name) {
            Ok(Some(group)) => Ok(Found { id: group.gid.as_raw(), primary_group: None }),
            Ok(None) if is_number(&name) => find_group(number(&name)?),
            Ok(None) => Err(unknown("group")),
            Err(error) => Err(cannot_ask("group", error)),
        },
        Account::Id(id) => Ok(Found { id, primary_group: None }),
    }
}

fn primary_group(section: &Section<'_>, user: &Found) -> Option<u32> {
    let Some(group) = user.primary_group else {
        let what = "no user has this number, so its group is not known";
        return section.refuse("user", Mismatch::new(what, "set `group` too"));
    };
    let own = section.context.around.group();
    may_become(section, "user", "primary group of this user", (group, own))
}

/// `wanted`, if a child can be started as that: only root can start one as somebody else.
fn may_become(
    section: &Section<'_>,
    key: &str,
    what: &str,
    (wanted, own): (u32, u32),
) -> Option<u32> {
    let us = section.context.around.user();
    if us == 0 || wanted == own {
        return Some(wanted);
    }
    let what =
        format!("the {what} is {wanted}, and only root can start a child as another than {own}");
    let help = format!("leave `user` and `group` out, or run the proxy as root; it is user {us}");
    section.refuse(key, Mismatch::new(what, help))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> Result<Account, Mismatch> {
    match text.parse() {
        Ok(id) if id < u32::MAX => Ok(Account::Id(id)),
        _ => Err(Mismatch::new("this number is too large", "write 0 to 4294967294")),
    }
}

fn unknown(kind: &str) -> Mismatch {
    Mismatch::new(
        format!("there is no {kind} of this name"),
        format!("create it, or write the name or number of another {kind}"),
    )
}

fn cannot_ask(kind: &str, error: nix::Error) -> Mismatch {
    Mismatch::new(
        format!("the system cannot say who this {kind} is: {}", error.desc()),
        "write the number",
    )
}
