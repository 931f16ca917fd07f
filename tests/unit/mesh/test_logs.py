from mesh import logs


def test_plain_text_becomes_a_json_line():
    record = logs.parse(logs.wrap("risk", "it broke"))
    assert (record["service"], record["event"], record["level"], record["stream"]) == (
        "risk",
        "it broke",
        "error",
        "stderr",
    )
    assert record["timestamp"].endswith("Z")


def test_nats_lines_keep_their_level():
    record = logs.parse(logs.wrap("nats", "[13043] 2026/11/22 14:37:27.771576 [WRN] Plaintext passwords detected"))
    assert (record["event"], record["level"]) == ("Plaintext passwords detected", "warning")


def test_a_stray_print_in_a_log_is_kept(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"event":"a"}\nnot json\n[1]\n\n{"event":"b"}\n')
    assert [record["event"] for record in logs.read(path)][:3] == ["a", "not json", "[1]"]
    assert [record["event"] for record in logs.tail(path, 2)] == ["[1]", "b"]
    assert logs.tail(tmp_path / "none.jsonl", 2) == []
    assert list(logs.read(tmp_path / "none.jsonl")) == []


def test_a_line_for_a_person_has_time_level_service_event_and_the_rest():
    record = {
        "timestamp": "2026-11-22T14:44:28.366643Z",
        "level": "info",
        "service": "risk",
        "version": "1",
        "event": "serving",
        "socket": "/x",
        "exception": "Traceback",
    }
    assert logs.plain(record) == "14:44:28.366 info     risk             serving socket=/x\nTraceback"


def test_the_format_of_postgres_is_understood() -> None:
    record = logs.parse(logs.wrap("postgres", "LOG:  database system is ready to accept connections"))
    assert (record["level"], record["event"]) == ("info", "database system is ready to accept connections")
    record = logs.parse(logs.wrap("postgres", 'FATAL:  lock file "postmaster.pid" already exists'))
    assert (record["level"], record["event"]) == ("critical", 'lock file "postmaster.pid" already exists')
