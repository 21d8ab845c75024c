//! Makes what wachta needs in Zabbix, or brings it up to date: template, host group, host, macro, dashboard.
//!
//! Each part is compared first and changed only where it differs, so that a second run changes nothing, and one that was
//! interrupted is completed by the next. What people added to a host stays. The template is imported as a whole, in one
//! transaction of the API.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::api::{self, Api, Error, Version};
use super::items::tag_macro;
use super::template::{self, Format};
use super::{dashboard, difference};

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The technical name of the host.
    pub host: String,
    /// The host group that a new host is put in.
    pub group: String,
    /// Names of tags of scenarios that items and triggers have, besides those that the template has already.
    pub tags: Vec<String>,
    /// Addresses that values of this host are taken from; `None` leaves them as they are.
    pub allowed_hosts: Option<String>,
}

/// A change that was made, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is changed, and how.
    pub what: String,
    /// The parts that change.
    pub parts: Vec<String>,
}

/// Why provisioning stopped. What was changed before stays; the next run goes on from there.
#[derive(Debug)]
pub struct Failure {
    /// The changes that were made before.
    pub made: Vec<Change>,
    /// What was being done.
    pub at: String,
    /// What Zabbix said.
    pub error: Error,
    /// What to do.
    pub help: &'static str,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.error)?;
        // Without an answer nothing can be said about permissions.
        if matches!(self.error, Error::Refused(_)) { write!(f, "; {}", self.help) } else { Ok(()) }
    }
}

impl std::error::Error for Failure {}

/// What a step of provisioning came to.
type Step<T> = Result<T, (String, Error, &'static str)>;

/// Makes what is wanted, or only says what would be changed (`is_dry`).
///
/// # Errors
///
/// When Zabbix refuses a call, or does not answer.
pub async fn provision(api: &Api, wanted: &Wanted, is_dry: bool) -> Result<Vec<Change>, Failure> {
    let mut work = Work { api, wanted, is_dry, changes: Vec::new() };
    match work.all().await {
        Ok(()) => Ok(work.changes),
        Err((at, error, help)) => Err(Failure { made: work.changes, at, error, help }),
    }
}

struct Work<'a> {
    api: &'a Api,
    wanted: &'a Wanted,
    is_dry: bool,
    changes: Vec<Change>,
}

/// What to do where an import is refused.
const TEMPLATE_HELP: &str = "a template needs a user of type Admin or Super admin with write permission on the template group Templates/Applications";
/// What to do where a group is refused.
const GROUP_HELP: &str =
    "only a Super admin may create host groups: let one create it, or name an existing one with --group";
/// What to do where a host is refused.
const HOST_HELP: &str = "a host needs a user of type Admin or Super admin with write permission on its host group and read permission on the template";
/// What to do where a dashboard is refused.
const DASHBOARD_HELP: &str = "a dashboard of this name may belong to another user: share it for editing, or rename it";

impl Work<'_> {
    async fn all(&mut self) -> Step<()> {
        let template = self.template().await?;
        let group = self.group().await?;
        let host = self.host(template.as_deref(), group.as_deref()).await?;
        self.allowed_hosts(host.as_deref()).await?;
        self.dashboard(template.as_deref(), group.as_deref()).await
    }

    fn changed(&mut self, what: String, parts: Vec<String>) {
        self.changes.push(Change { what, parts });
    }

    /// Imports the template where it differs; returns its id, if it is there.
    async fn template(&mut self) -> Step<Option<String>> {
        let doing = |error| ("cannot update the template `wachta`".to_owned(), error, TEMPLATE_HELP);
        let id = self.template_id().await.map_err(doing)?;
        let tags = self.tags(id.as_deref()).await.map_err(doing)?;
        let is_old = self.api.version() < Version::new(7, 0);
        let format = if is_old { Format::V6_0 } else { Format::V7_0 };
        let all = json!({"createMissing": true, "updateExisting": true});
        let mut rules = json!({
            "templates": all, "valueMaps": all, "items": all, "triggers": all, "graphs": all, "discoveryRules": all,
            "templateDashboards": all,
        });
        // Since 6.2 templates have groups of their own. 6.2 and 6.4 take the file of 6.0, and the rules of 7.0.
        let groups = if self.api.version() < Version::new(6, 2) { "groups" } else { "template_groups" };
        rules[groups] = json!({"createMissing": true});
        let source = template::export(format, &tags).to_string();
        let import = json!({"format": "json", "source": source, "rules": rules});
        let compared = self.api.call("configuration.importcompare", &import).await.map_err(doing)?;
        let parts = difference::lines(&compared);
        if parts.is_empty() {
            return Ok(id);
        }
        if !self.is_dry {
            self.api.call("configuration.import", &import).await.map_err(doing)?;
        }
        let what = if id.is_some() { "update the template `wachta`" } else { "add the template `wachta`" };
        self.changed(what.to_owned(), parts);
        if self.is_dry { Ok(id) } else { self.template_id().await.map_err(doing) }
    }

    async fn template_id(&self) -> Result<Option<String>, Error> {
        let params = json!({"filter": {"host": template::NAME}, "output": ["templateid"]});
        Ok(id_of(&self.api.get("template.get", &params).await?, "templateid"))
    }

    /// The wanted tags and those that the template has, since agents with other tags may share it.
    async fn tags(&self, template: Option<&str>) -> Result<Vec<String>, Error> {
        let mut tags: BTreeSet<String> = self.wanted.tags.iter().cloned().collect();
        if let Some(template) = template {
            let params = json!({"templateids": [template], "output": ["triggerid"], "selectTags": ["tag", "value"]});
            for prototype in self.api.get("triggerprototype.get", &params).await? {
                let of = prototype["tags"].as_array().cloned().unwrap_or_default();
                let names = of.iter().map(|tag| (api::text(&tag["tag"]), api::text(&tag["value"])));
                tags.extend(names.filter(|(name, value)| *value == tag_macro(name)).map(|(name, _)| name));
            }
        }
        Ok(tags.into_iter().collect())
    }

    /// Returns the id of the host group, which is created where it is missing.
    async fn group(&mut self) -> Step<Option<String>> {
        let name = &self.wanted.group;
        let doing = |error| (format!("cannot create the host group `{name}`"), error, GROUP_HELP);
        let params = json!({"filter": {"name": name}, "output": ["groupid"]});
        let found = self.api.get("hostgroup.get", &params).await.map_err(doing)?;
        if let Some(id) = id_of(&found, "groupid") {
            return Ok(Some(id));
        }
        let what = format!("add the host group `{name}`");
        let mut id = None;
        if !self.is_dry {
            let made = self.api.call("hostgroup.create", &json!({"name": name})).await.map_err(doing)?;
            id = made["groupids"].get(0).map(api::text);
        }
        self.changed(what, Vec::new());
        Ok(id)
    }

    /// Returns the id of the host, which is created where it is missing and linked where it is not.
    async fn host(&mut self, template: Option<&str>, group: Option<&str>) -> Step<Option<String>> {
        let name = self.wanted.host.clone();
        let doing = |error| (format!("cannot create or link the host `{name}`"), error, HOST_HELP);
        let params = json!({
            "filter": {"host": name}, "output": ["hostid"], "selectParentTemplates": ["templateid"],
        });
        let found = self.api.get("host.get", &params).await.map_err(doing)?;
        let Some(host) = found.first() else {
            let mut id = None;
            if let (false, Some(template), Some(group)) = (self.is_dry, template, group) {
                let params = json!({
                    "host": name, "groups": [{"groupid": group}], "templates": [{"templateid": template}],
                });
                let made = self.api.call("host.create", &params).await.map_err(doing)?;
                id = made["hostids"].get(0).map(api::text);
            }
            let parts = vec![format!("in the host group `{}`", self.wanted.group), "linked to the template".to_owned()];
            self.changed(format!("add the host `{name}`"), parts);
            return Ok(id);
        };
        let id = api::text(&host["hostid"]);
        let linked = host["parentTemplates"].as_array().cloned().unwrap_or_default();
        let is_linked =
            linked.iter().any(|of| template.is_some_and(|template| api::text(&of["templateid"]) == template));
        if !is_linked {
            if let (false, Some(template)) = (self.is_dry, template) {
                let params = json!({"hosts": [{"hostid": id}], "templates": [{"templateid": template}]});
                self.api.call("host.massadd", &params).await.map_err(doing)?;
            }
            self.changed(format!("link the host `{name}` to the template"), Vec::new());
        }
        Ok(Some(id))
    }

    /// Sets the macro of the host with the addresses that values are taken from.
    async fn allowed_hosts(&mut self, host: Option<&str>) -> Step<()> {
        let Some(wanted) = &self.wanted.allowed_hosts else { return Ok(()) };
        let doing = |error| (format!("cannot set the macro `{}`", template::ALLOWED_HOSTS), error, HOST_HELP);
        let found = match host {
            Some(host) => {
                let params = json!({
                    "hostids": [host], "filter": {"macro": template::ALLOWED_HOSTS}, "output": ["hostmacroid", "value"],
                });
                self.api.get("usermacro.get", &params).await.map_err(doing)?
            }
            None => Vec::new(),
        };
        let before = found.first().map(|found| api::text(&found["value"]));
        if before.as_ref() == Some(wanted) {
            return Ok(());
        }
        if let (false, Some(host)) = (self.is_dry, host) {
            let (method, params) = match found.first() {
                Some(found) => ("usermacro.update", json!({"hostmacroid": found["hostmacroid"], "value": wanted})),
                None => {
                    ("usermacro.create", json!({"hostid": host, "macro": template::ALLOWED_HOSTS, "value": wanted}))
                }
            };
            self.api.call(method, &params).await.map_err(doing)?;
        }
        let before = before.unwrap_or_else(|| "that of the template".to_owned());
        let what = format!("set the macro `{}` of the host `{}`", template::ALLOWED_HOSTS, self.wanted.host);
        self.changed(what, vec![format!("{before} → {wanted}")]);
        Ok(())
    }

    /// Creates or updates the dashboard of all hosts that the template is linked to.
    async fn dashboard(&mut self, template: Option<&str>, group: Option<&str>) -> Step<()> {
        let doing = |error| (format!("cannot update the dashboard `{}`", dashboard::NAME), error, DASHBOARD_HELP);
        let mut names = BTreeSet::new();
        if let Some(template) = template {
            let params = json!({"templateids": [template], "output": ["host", "name"]});
            let hosts = self.api.get("host.get", &params).await.map_err(doing)?;
            names.extend(hosts.iter().map(|host| api::text(&host["name"])));
        }
        if names.is_empty() {
            names.insert(self.wanted.host.clone());
        }
        let params = json!({
            "filter": {"name": dashboard::NAME}, "output": "extend", "selectPages": "extend",
        });
        let found = self.api.get("dashboard.get", &params).await.map_err(doing)?;
        let hosts: Vec<_> = names.into_iter().collect();
        let mut wanted = dashboard::dashboard(self.api.version(), group.unwrap_or_default(), &hosts);
        match found.first() {
            Some(found) if difference::covers(found, &wanted) => Ok(()),
            Some(found) => {
                wanted["dashboardid"] = found["dashboardid"].clone();
                self.put_dashboard("dashboard.update", "update", &wanted).await.map_err(doing)
            }
            None => self.put_dashboard("dashboard.create", "add", &wanted).await.map_err(doing),
        }
    }

    async fn put_dashboard(&mut self, method: &str, verb: &str, wanted: &Value) -> Result<(), Error> {
        if !self.is_dry {
            self.api.call(method, wanted).await?;
        }
        self.changed(format!("{verb} the dashboard `{}`", dashboard::NAME), Vec::new());
        Ok(())
    }
}

/// The id of the first object.
fn id_of(objects: &[Value], key: &str) -> Option<String> {
    objects.first().map(|object| api::text(&object[key]))
}
