//! A browser, driven over WebDriver: just what these tests need of it.

use serde_json::Value;
use serde_json::json;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// Nothing here takes so long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A page that is open in a browser of its own.
pub(crate) struct Browser {
    driver: Child,
    client: reqwest::Client,
    session: String,
    origin: String,
    /// What the browser keeps, gone with it.
    _profile: TempDir,
}

impl Browser {
    /// A fresh browser without a history. `origin` is what its pages are at: `http://localhost:9464`.
    pub(crate) async fn start(origin: &str) -> Self {
        feather_sync::feather::install_tls();
        let profile = tempfile::tempdir().unwrap();
        let (driver, port) = driver();
        let root = format!("http://127.0.0.1:{port}/session");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            // No name but this host's leads anywhere.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
            &format!("--user-data-dir={}", profile.path().display()),
            "--window-size=1280,900",
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }}});
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(2 * PATIENCE)
            .build()
            .unwrap();
        let mut browser = Self {
            driver,
            client,
            session: root.clone(),
            origin: origin.to_owned(),
            _profile: profile,
        };
        let begun = browser.post("", &wanted).await;
        let id = begun["sessionId"].as_str().unwrap();
        browser.session = format!("{root}/{id}");
        // Whatever page of its own it has begun with is none of ours.
        browser.post("/url", &json!({"url": "about:blank"})).await;
        browser.log("performance").await;
        browser
    }

    /// Opens a page of the origin.
    pub(crate) async fn open(&self, path: &str) {
        let url = format!("{}{path}", self.origin);
        self.post("/url", &json!({"url": url})).await;
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = json!({"script": format!("return {expression}"), "args": []});
        self.post("/execute/sync", &script).await
    }

    /// The page's text, as somebody reads it.
    pub(crate) async fn text(&self) -> String {
        let text = self.value("document.body.innerText").await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression in the page is true.
    pub(crate) async fn until(&self, expression: &str) {
        let begun = Instant::now();
        while self.value(&format!("!!({expression})")).await != true {
            if begun.elapsed() > PATIENCE {
                panic!("still not: {expression}\n{}", self.text().await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the page says so.
    pub(crate) async fn until_text(&self, text: &str) {
        self.until(&format!(
            "document.body.innerText.includes({})",
            json!(text)
        ))
        .await;
    }

    /// Clicks on the one element that the selector finds; once more where the page has just put another in its place.
    pub(crate) async fn click(&self, selector: &str) {
        if let Err(error) = self.try_click(selector).await {
            let moved = ["stale element reference", "element click intercepted"];
            let again = moved.iter().any(|known| error["error"] == *known);
            assert!(again, "{selector}: {error:#}");
            let second = self.try_click(selector).await;
            assert!(second.is_ok(), "{selector}, twice: {second:#?}");
        }
    }

    async fn try_click(&self, selector: &str) -> Result<Value, Value> {
        let element = self.find(selector).await;
        self.try_post(&format!("/element/{element}/click"), &json!({}))
            .await
    }

    /// Types into the one element that the selector finds.
    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("/element/{element}/value"), &json!({"text": text}))
            .await;
    }

    /// Presses keys, with whatever has the focus.
    pub(crate) async fn press(&self, keys: &str) {
        let strokes: Vec<_> = keys
            .chars()
            .flat_map(|key| {
                [
                    json!({"type": "keyDown", "value": key}),
                    json!({"type": "keyUp", "value": key}),
                ]
            })
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]});
        self.post("/actions", &actions).await;
    }

    async fn find(&self, selector: &str) -> String {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.post("/element", &wanted).await;
        let (_, id) = found.as_object().unwrap().iter().next().unwrap();
        id.as_str().unwrap().to_owned()
    }

    /// Speaks to the browser itself.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let command = json!({"cmd": command, "params": parameters});
        self.post("/goog/cdp/execute", &command).await
    }

    /// Light or dark, as the system's settings have it.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// A screen of this size.
    pub(crate) async fn resize(&self, width: u32, height: u32, mobile: bool) {
        let screen =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", screen)
            .await;
    }

    /// A picture of the screen, as base64 of a PNG.
    pub(crate) async fn picture(&self) -> String {
        let taken = self
            .devtools("Page.captureScreenshot", json!({"format": "png"}))
            .await;
        taken["data"].as_str().unwrap().to_owned()
    }

    /// Whether a dialog of a script stands before the page.
    pub(crate) async fn has_dialog(&self) -> bool {
        let url = format!("{}/alert/text", self.session);
        let answer = self.client.get(url).send().await.unwrap();
        answer.status().is_success()
    }

    /// Nothing was asked of another host, and nothing is wrong in the console. Both since the last time.
    pub(crate) async fn assert_calm(&self) {
        let complaints = self.complaints().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    /// Errors in the console, and requests to elsewhere, since the last time.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let console = self.log("browser").await.into_iter();
        let wrong = console.filter(|entry| entry["level"] == "SEVERE");
        let mut complaints: Vec<_> = wrong.map(|entry| entry["message"].to_string()).collect();
        let mut asked = 0;
        for entry in self.log("performance").await {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let message = &message["message"];
            if message["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let url = message["params"]["request"]["url"].as_str().unwrap();
            let is_ours = url
                .strip_prefix(&self.origin)
                .is_some_and(|rest| rest.starts_with('/'));
            if !is_ours && !url.starts_with("data:") {
                complaints.push(url.to_owned());
            }
            asked += 1;
        }
        assert!(asked > 0, "nothing was recorded at all");
        complaints
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", &json!({"type": kind})).await;
        entries.as_array().unwrap().clone()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.try_post(path, body).await;
        answer.unwrap_or_else(|error| panic!("{path} {body}: {error:#}"))
    }

    /// The driver's answer, or its error.
    async fn try_post(&self, path: &str, body: &Value) -> Result<Value, Value> {
        let url = format!("{}{path}", self.session);
        let request = self.client.post(url).body(body.to_string());
        let answer = request.send().await.unwrap().text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let value = answer["value"].take();
        if value["error"].is_null() {
            Ok(value)
        } else {
            Err(value)
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when the session is ended, and leaves it behind when it is killed.
        let _ = self.end_session();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    fn end_session(&self) -> std::io::Result<()> {
        let (host, path) = self
            .session
            .trim_start_matches("http://")
            .split_once('/')
            .unwrap_or_default();
        let mut driver = TcpStream::connect(host)?;
        driver.set_read_timeout(Some(PATIENCE))?;
        write!(
            driver,
            "DELETE /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        // It answers once the browser is gone, and keeps the connection.
        driver.read(&mut [0; 64]).map(|_| ())
    }
}

/// A driver, and the port that it listens on.
fn driver() -> (Child, u16) {
    let started = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .spawn();
    let mut driver = started.unwrap_or_else(|error| {
        panic!("chromedriver: {error}; `FEATHER_SYNC_BROWSER=1 scripts/setup` brings it where apt-get has it")
    });
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let (said, port) = std::sync::mpsc::channel();
    // A thread of its own: a driver that says nothing is not waited for.
    std::thread::spawn(move || {
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        port.map(|port| said.send(port))
    });
    let Ok(port) = port.recv_timeout(PATIENCE) else {
        let _ = driver.kill();
        let _ = driver.wait();
        panic!("chromedriver did not say on which port it listens");
    };
    (driver, port)
}
