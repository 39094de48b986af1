"""A Flask application written for the original, with its own client (poussetaches 0.2.0).

It runs in the virtual environment ``.venv-original``. ``/call/<method>`` calls the client's
method with the JSON sent; ``/task/<behaviour>`` receives tasks.
"""

import dataclasses
import datetime
import logging
import sys

import flask

from poussetaches import PousseTaches

app = flask.Flask(__name__)
client = PousseTaches(sys.argv[2], f"http://127.0.0.1:{sys.argv[1]}")
parsed = []


@app.route("/call/<method>", methods=["POST"])
def call(method):
    result = getattr(client, method)(**flask.request.get_json())
    return flask.jsonify(result=plain(result))


@app.route("/parsed")
def show_parsed():
    return flask.jsonify(parsed)


@app.route("/task/<behaviour>", methods=["POST"])
def task(behaviour):
    received = client.parse(flask.request)
    parsed.append({"behaviour": behaviour, **dataclasses.asdict(received)})
    if behaviour == "fails" or (behaviour == "fails_twice" and received.tries <= 2):
        return "caf\u00e9 closed", 503
    return "", int(behaviour) if behaviour.isdigit() else 200


def plain(value):
    if isinstance(value, list):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {key: plain(item) for key, item in dataclasses.asdict(value).items()}
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    return value


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
