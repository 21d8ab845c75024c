//! Bugsink, a Django application that nobody here wrote: its pages are a target. It reports nothing to its makers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::group::{Group, free_port, tools};
use super::{Folder, until};

/// A server with a project, for the user `admin` with the password `admin`.
pub struct Bugsink {
    _group: Group,
    pub url: String,
    /// Where events of its project go.
    pub dsn: String,
    /// The number of its project.
    pub project: String,
    /// A token of its API.
    pub token: String,
    http: reqwest::Client,
    _folder: Folder,
}

impl Bugsink {
    pub async fn up(project: &str) -> Self {
        let (folder, tools, port) = (Folder::new("bugsink"), tools("bugsink/bin/gunicorn"), free_port());
        let programs = tools.join("bugsink/bin");
        let run = |program: &str, arguments: &[&str], input: Option<&str>| {
            run(&programs, folder.path(), program, arguments, input)
        };
        run(
            "bugsink-create-conf",
            &["--template=local", "-o", "bugsink_conf.py", "--host", "127.0.0.1", "--port", &port.to_string()],
            None,
        );
        let settings = folder.path().join("bugsink_conf.py");
        let base = std::fs::read_to_string(&settings).unwrap();
        let place = folder.path().display();
        let own = format!(
            "\nBUGSINK[\"PHONEHOME\"] = False\nALLOWED_HOSTS = [\"127.0.0.1\"]\n\
             DATABASES[\"default\"][\"NAME\"] = \"{place}/db.sqlite3\"\nDATABASES[\"snappea\"][\"NAME\"] = \"{place}/snappea.sqlite3\"\n"
        );
        std::fs::write(&settings, base + &own).unwrap();
        run("bugsink-manage", &["migrate"], None);
        run("bugsink-manage", &["migrate", "snappea", "--database=snappea"], None);
        let made = format!(
            "from django.contrib.auth import get_user_model as user\nfrom teams.models import Team\nfrom projects.models import Project\n\
             user().objects.create_superuser(username='admin', email='admin@example.org', password='admin')\n\
             project = Project.objects.create(name='{project}', team=Team.objects.create(name='{project}'))\n\
             open('project', 'w').write(f'{{project.id}} {{project.dsn}}')\n"
        );
        run("bugsink-manage", &["shell"], Some(&made));
        let made = std::fs::read_to_string(folder.path().join("project")).unwrap();
        let (project, dsn) = made.split_once(' ').map(|(id, dsn)| (id.to_owned(), dsn.to_owned())).unwrap();
        let token = run("bugsink-manage", &["create_auth_token"], None).lines().last().unwrap().trim().to_owned();
        let mut command = Command::new(programs.join("gunicorn"));
        command
            .args(["--bind", &format!("127.0.0.1:{port}"), "--workers", "1", "--threads", "4", "--no-control-socket"])
            .arg("--chdir")
            .arg(folder.path())
            .arg("bugsink.wsgi")
            .current_dir(folder.path())
            .env("DJANGO_SETTINGS_MODULE", "bugsink_conf")
            .env("PYTHONPATH", folder.path());
        let mut group = Group::start(&mut command, &folder.path().join("bugsink.log"));
        let url = format!("http://127.0.0.1:{port}");
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        until("Bugsink is ready", Duration::from_secs(60), async || {
            group.must_live();
            http.get(format!("{url}/health/ready")).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
        Self { _group: group, url, dsn, project, token, http, _folder: folder }
    }

    /// What its API has under a path.
    pub async fn get(&self, path: &str) -> serde_json::Value {
        let url = format!("{}/api/canonical/0/{path}", self.url);
        let answer = self.http.get(&url).bearer_auth(&self.token).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The issues of its project, the first one first.
    pub async fn issues(&self) -> Vec<serde_json::Value> {
        let issues = self.get(&format!("issues/?project={}", self.project)).await;
        issues["results"].as_array().unwrap().clone()
    }

    /// The events of an issue with all that they say, the first one first.
    pub async fn events(&self, issue: &serde_json::Value) -> Vec<serde_json::Value> {
        let listed = self.get(&format!("events/?issue={}&order=asc", issue["id"].as_str().unwrap())).await;
        let mut events = Vec::new();
        for event in listed["results"].as_array().unwrap() {
            events.push(self.get(&format!("events/{}/", event["id"].as_str().unwrap())).await["data"].clone());
        }
        events
    }
}

fn run(programs: &Path, folder: &Path, program: &str, arguments: &[&str], input: Option<&str>) -> String {
    let mut command = Command::new(programs.join(program));
    command.args(arguments).current_dir(folder).env("DJANGO_SETTINGS_MODULE", "bugsink_conf").env("PYTHONPATH", folder);
    if let Some(input) = input {
        std::fs::write(folder.join("input"), input).unwrap();
        command.stdin(std::fs::File::open(folder.join("input")).unwrap());
    }
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
