"""A real mail server (aiosmtpd) on loopback that takes mail only after STARTTLS and a login.

usage: mail.py PORT CERTIFICATE KEY USER PASSWORD FOLDER
Each mail is written to FOLDER as it came (N.eml), as what a mail program reads in it (N.json), and as the page that
it shows (N/index.html, with the pictures beside it).
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

port, certificate, key, user, password, folder = sys.argv[1:]


class Keep:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        plain, page = mail.get_body(["plain"]), mail.get_body(["html"])
        shown = page.get_content()
        place = os.path.join(folder, str(self.count))
        os.makedirs(place)
        pictures = []
        for part in mail.walk():
            if part.get_content_maintype() == "image":
                name = part["Content-ID"].strip("<>")
                with open(os.path.join(place, name + ".png"), "wb") as file:
                    file.write(part.get_content())
                pictures.append({"id": name, "type": part.get_content_type(), "bytes": len(part.get_content())})
                shown = shown.replace("cid:" + name, name + ".png")
        with open(os.path.join(place, "index.html"), "w") as file:
            file.write(shown)
        with open(place + ".eml", "wb") as file:
            file.write(envelope.content)
        read = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "text": plain.get_content(),
            "pictures": pictures,
            "defects": [str(defect) for part in mail.walk() for defect in part.defects],
        }
        # Whole or not at all: somebody is waiting for it.
        with open(place + ".part", "w") as file:
            json.dump(read, file)
        os.rename(place + ".part", place + ".json")
        self.count += 1
        return "250 2.0.0 kept"


def login(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login.decode(), data.password.decode()) == (user, password))


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    keep = Keep()

    def session():
        return SMTP(keep, tls_context=context, require_starttls=True, auth_required=True, authenticator=login)

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", int(port))
    await server.serve_forever()


asyncio.run(main())
