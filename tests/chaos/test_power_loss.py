"""The whole server on a disk that loses what was not synced (tests/power_loss): nothing acknowledged is lost."""

import random

from load import Load, check, finish

POWER_LOSS_EXIT = 99


def run_until_power_is_lost(server):
    """Whether it got as far as serving."""
    try:
        server.start()
    except AssertionError as e:
        assert f"ended with {POWER_LOSS_EXIT}" in str(e), e
        return False
    assert server.wait_exit(60) == POWER_LOSS_EXIT
    return True


def test_power_is_lost_under_ingest(make_server):
    server = make_server(settings="sqlite:\n  segment_events: 300\n")
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    served, ring = 0, None
    server.use_simulated_disk(seed=0, lose_after=10_000_000)
    server.start()
    with Load(server, threads=4) as load:
        server.kill()
        for round_number in range(10):
            server.use_simulated_disk(seed=chance.randrange(1 << 32), lose_after=chance.randrange(200, 3000))
            served += run_until_power_is_lost(server)
            keyring = server.data_dir / "keyring"
            ring = ring or keyring.read_bytes()
            assert keyring.read_bytes() == ring, "cursors that were handed out are not valid any more"
        server.use_real_disk()
        server.start()
    assert served >= 3
    finish(load)
    assert load.acknowledged() > 10
    check(load, server.client())


def test_power_is_lost_at_the_first_start(make_server):
    """Wherever it is cut off, the next start goes on, with all or nothing of the bootstrap."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(8):
        server = make_server()
        for _ in range(2):
            server.use_simulated_disk(seed=chance.randrange(1 << 32), lose_after=chance.randrange(0, 90))
            run_until_power_is_lost_or_stop(server)
        server.use_real_disk()
        server.start()
        assert server.client().page()["data"][0]["action"] == "api_key.created"
        server.terminate()


def run_until_power_is_lost_or_stop(server):
    try:
        server.start()
    except AssertionError as e:
        assert f"ended with {POWER_LOSS_EXIT}" in str(e), e
        return
    server.kill()
