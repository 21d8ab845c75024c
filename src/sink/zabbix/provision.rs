//! Provisioning of Zabbix: creates or updates template, host group, host, macro and dashboard.
//!
//! Each part is compared first and changed only if it differs, so that a second run changes nothing, and an interrupted
//! one is completed by the next. Manual additions to a host are preserved. The template is imported as a whole, in one
//! transaction of the API.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::api::{self, Api, Error, Version};
use super::items::tag_macro;
use super::template::{self, Format};
use super::{dashboard, difference};

/// Desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Technical name of the host.
    pub host: String,
    /// Host group for a new host.
    pub group: String,
    /// Names of scenario tags to copy to items and triggers, in addition to those already in the template.
    pub tags: Vec<String>,
    /// Addresses from which values of this host are accepted; `None` leaves them unchanged.
    pub allowed_hosts: Option<String>,
}

/// Change that was made, or would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Description of the change.
    pub what: String,
    /// Parts that change.
    pub parts: Vec<String>,
}

/// Error that ended provisioning. Changes made before are kept, and the next run continues from there.
#[derive(Debug)]
pub struct Failure {
    /// Changes made before the error.
    pub made: Vec<Change>,
    /// Description of the failed action.
    pub at: String,
    /// Error returned by Zabbix.
    pub error: Error,
    /// Advice for correcting the problem.
    pub help: &'static str,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.error)?;
        // Without a response, advice about permissions would be misleading.
        if matches!(self.error, Error::Refused(_)) { write!(f, "; {}", self.help) } else { Ok(()) }
    }
}

impl std::error::Error for Failure {}

/// Result of a provisioning step.
type Step<T> = Result<T, (String, Error, &'static str)>;

/// Provisions Zabbix, or only returns the changes that would be made (`is_dry`).
///
/// # Errors
///
/// Zabbix rejects a call, or does not respond.
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

/// Advice for a rejected import.
const TEMPLATE_HELP: &str = "a template needs a user of type Admin or Super admin with write permission on the template group Templates/Applications";
/// Advice for a rejected host group.
const GROUP_HELP: &str =
    "only a Super admin may create host groups: let one create it, or name an existing one with --group";
/// Advice for a rejected host.
const HOST_HELP: &str = "a host needs a user of type Admin or Super admin with write permission on its host group and read permission on the template";
/// Advice for a rejected dashboard.
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

    /// Imports the template if it differs, and returns its id if it exists.
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
        // Since 6.2 templates have separate groups. 6.2 and 6.4 accept the file format of 6.0 and the import rules of
        // 7.0.
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

    /// Returns the desired tags and those already in the template, because agents with other tags may share it.
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

    /// Returns the id of the host group, which is created if it is missing.
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

    /// Returns the id of the host, which is created if it is missing and linked to the template if it is not.
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

    /// Sets the host macro with the addresses from which values are accepted.
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

    /// Updates the dashboard of all hosts to which the template is linked, or creates it.
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

/// Returns the id of the first object.
fn id_of(objects: &[Value], key: &str) -> Option<String> {
    objects.first().map(|object| api::text(&object[key]))
}
