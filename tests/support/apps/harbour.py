"""A small API of ships with its OpenAPI description, and the pages of Swagger UI for it.

usage: harbour.py PORT [FOLDER]     FOLDER holds Swagger UI; without it there is only the API

Listens on loopback. The ships are in memory. Reading is open to anybody; adding and removing a ship takes HTTP basic
authentication as `pilot` with the password `lagoon`.
"""

import base64
import json
import os
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

PILOT = "Basic " + base64.b64encode(b"pilot:lagoon").decode()

SHIP = {"$ref": "#/components/schemas/Ship"}
NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Name of the ship"}


def response(text, schema=None):
    content = {"content": {"application/json": {"schema": schema}}} if schema else {}
    return {"description": text, **content}


OPENAPI = {
    "openapi": "3.0.3",
    "info": {"title": "Harbour API", "version": "1.0.0", "description": "Ships that lie in the harbour."},
    "servers": [{"url": "/"}],
    "tags": [{"name": "ships"}],
    "paths": {
        "/ships": {
            "get": {
                "tags": ["ships"],
                "summary": "List all ships",
                "operationId": "list",
                "responses": {"200": response("The ships", {"type": "array", "items": SHIP})},
            },
            "post": {
                "tags": ["ships"],
                "summary": "Add a ship",
                "operationId": "add",
                "security": [{"pilot": []}],
                "requestBody": {"required": True, "content": {"application/json": {"schema": SHIP}}},
                "responses": {"201": response("Added", SHIP), "401": response("Not a pilot")},
            },
        },
        "/ships/{name}": {
            "get": {
                "tags": ["ships"],
                "summary": "Find a ship",
                "operationId": "find",
                "parameters": [NAME],
                "responses": {"200": response("The ship", SHIP), "404": response("No such ship")},
            },
            "delete": {
                "tags": ["ships"],
                "summary": "Remove a ship",
                "operationId": "remove",
                "security": [{"pilot": []}],
                "parameters": [NAME],
                "responses": {"204": response("Removed"), "401": response("Not a pilot"), "404": response("No such ship")},
            },
        },
    },
    "components": {
        "schemas": {
            "Ship": {
                "type": "object",
                "required": ["name", "tons"],
                "properties": {
                    "name": {"type": "string", "example": "Albatross"},
                    "tons": {"type": "integer", "example": 1200},
                },
            }
        },
        "securitySchemes": {"pilot": {"type": "http", "scheme": "basic"}},
    },
}

INITIALIZER = """window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    plugins: [SwaggerUIBundle.plugins.DownloadUrl],
    layout: "StandaloneLayout",
    validatorUrl: null,
  });
};
"""

SHIPS = {"Albatross": {"name": "Albatross", "tons": 1200}, "Kittiwake": {"name": "Kittiwake", "tons": 300}}
LOCK = threading.Lock()


class Harbour(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value=None, kind="application/json"):
        text = value if isinstance(value, str) else json.dumps(value)
        body = b"" if value is None else text.encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def is_pilot(self):
        if self.headers.get("Authorization") == PILOT:
            return True
        self.answer(401, {"error": "only a pilot may do this"})
        return False

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/openapi.json":
            return self.answer(200, OPENAPI)
        if path == "/swagger-initializer.js":
            return self.answer(200, INITIALIZER, "text/javascript")
        if path == "/ships":
            with LOCK:
                return self.answer(200, list(SHIPS.values()))
        if path.startswith("/ships/"):
            with LOCK:
                ship = SHIPS.get(path.removeprefix("/ships/"))
            return self.answer(200, ship) if ship else self.answer(404, {"error": "no such ship"})
        if len(sys.argv) > 2:
            return super().do_GET()
        return self.answer(404, {"error": "no such page"})

    def do_POST(self):
        body = self.body()
        if not self.is_pilot():
            return
        try:
            ship = json.loads(body)
            name, tons = ship["name"], int(ship["tons"])
        except (ValueError, KeyError, TypeError):
            return self.answer(400, {"error": "not a ship"})
        with LOCK:
            SHIPS[name] = {"name": name, "tons": tons}
        self.answer(201, SHIPS[name])

    def do_DELETE(self):
        if not self.is_pilot():
            return
        with LOCK:
            gone = SHIPS.pop(self.path.removeprefix("/ships/"), None)
        self.answer(204) if gone else self.answer(404, {"error": "no such ship"})


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.chdir(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Harbour).serve_forever()
