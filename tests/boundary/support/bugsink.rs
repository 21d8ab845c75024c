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
    _folder: Folder,
}

impl Bugsink {
    pub async fn up(project: &str) -> Self {
        let (folder, tools, port) = (Folder::new("bugsink"), tools("bugsink/bin/gunicorn"), free_port());
        let programs = tools.join("bugsink/bin");
        let run = |program: &str, arguments: &[&str], input: Option<&str>| {
            run(&programs, folder.path(), program, arguments, input);
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
             Project.objects.create(name='{project}', team=Team.objects.create(name='{project}'))\n"
        );
        run("bugsink-manage", &["shell"], Some(&made));
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
        Self { _group: group, url, _folder: folder }
    }
}

fn run(programs: &Path, folder: &Path, program: &str, arguments: &[&str], input: Option<&str>) {
    let mut command = Command::new(programs.join(program));
    command.args(arguments).current_dir(folder).env("DJANGO_SETTINGS_MODULE", "bugsink_conf").env("PYTHONPATH", folder);
    if let Some(input) = input {
        std::fs::write(folder.join("input"), input).unwrap();
        command.stdin(std::fs::File::open(folder.join("input")).unwrap());
    }
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}
