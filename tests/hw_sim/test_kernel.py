"""The event kernel: order, lock-step clients, real time, and what happens when something goes wrong."""

import threading
import time

import pytest

from hw_sim.errors import ClientStalled, KernelClosed, KernelError
from hw_sim.kernel import Kernel

MS = 1_000_000


def test_events_run_in_order_of_time_then_of_insertion(kernel):
    ran = []
    for t_ns, name in ((30, "c"), (10, "a"), (30, "d"), (20, "b")):
        kernel.at(t_ns, lambda name=name: ran.append((name, kernel.now_ns)))
    kernel.run_until(100)
    assert ran == [("a", 10), ("b", 20), ("c", 30), ("d", 30)]
    assert kernel.now_ns == 100


def test_an_event_at_the_limit_runs_and_one_after_it_waits(kernel):
    ran = []
    kernel.at(100, lambda: ran.append(100))
    kernel.at(101, lambda: ran.append(101))
    kernel.run_until(100)
    assert ran == [100]
    kernel.run_until(101)
    assert ran == [100, 101]


def test_an_event_may_queue_another_for_the_same_instant(kernel):
    ran = []
    kernel.at(10, lambda: kernel.after(0, lambda: ran.append(kernel.now_ns)))
    kernel.run_until(10)
    assert ran == [10]


def test_a_cancelled_event_does_not_run(kernel):
    ran = []
    event = kernel.at(10, lambda: ran.append(1))
    kernel.cancel(event)
    kernel.cancel(None)
    kernel.run_until(20)
    assert ran == []


def test_the_past_is_refused(kernel):
    kernel.run_until(10)
    with pytest.raises(KernelError):
        kernel.at(9, lambda: None)


def test_with_nothing_queued_time_goes_to_the_limit(kernel):
    kernel.run_until(86_400 * 1_000 * MS)
    assert kernel.now_ns == 86_400 * 1_000 * MS


def test_random_sources_depend_on_seed_and_name_only():
    draws = [Kernel(seed).rng(name).random() for seed, name in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_what_an_event_raises_ends_the_run_and_the_next_run_goes_on(kernel):
    ran = []

    def broken() -> None:
        raise ZeroDivisionError

    kernel.at(10, broken)
    kernel.at(20, lambda: ran.append(1))
    with pytest.raises(ZeroDivisionError):
        kernel.run_until(30)
    kernel.run_until(30)
    assert ran == [1]


def test_the_client_with_the_smallest_local_time_is_served_first(kernel):
    order = []

    def client(name: str, step_ns: int):
        def body() -> None:
            here = kernel.client_here()
            for _ in range(3):
                here.delay(step_ns)
                here.call(lambda: order.append((kernel.now_ns, name)))

        return body

    kernel.spawn(client("slow", 1000), "slow")
    kernel.spawn(client("fast", 700), "fast")
    kernel.at(1500, lambda: order.append((1500, "event")))
    kernel.run_until(10_000)
    assert order == [
        (700, "fast"),
        (1000, "slow"),
        (1400, "fast"),
        (1500, "event"),
        (2000, "slow"),
        (2100, "fast"),
        (3000, "slow"),
    ]


def test_a_computing_client_holds_time_however_slow_it_is(kernel):
    seen = []
    gate = threading.Event()

    def body() -> None:
        here = kernel.client_here()
        here.delay(10)
        gate.wait(5)
        seen.append(kernel.now_ns)
        here.delay(10)

    kernel.spawn(body, "slow")
    kernel.at(15, lambda: seen.append("event"))
    threading.Timer(0.05, gate.set).start()
    kernel.run_until(100)
    assert seen == [10, "event"]


def test_clients_that_tie_go_by_name_whoever_started_first(kernel):
    order = []
    for name in ("c", "a", "b"):
        kernel.spawn(
            lambda name=name: (
                kernel.client_here().call(lambda: order.append(name)) or kernel.client_here().delay(5)
            ),
            name,
        )
    kernel.run_until(10)
    assert order == ["a", "b", "c"]


def test_costs_before_and_after_a_call_pass_for_the_client(kernel):
    times = []

    def body() -> None:
        here = kernel.client_here()
        here.call(lambda: times.append(kernel.now_ns), before_ns=30, after_ns=12)
        here.call(lambda: times.append(kernel.now_ns))

    kernel.spawn(body, "client")
    kernel.run_until(1000)
    assert times == [30, 42]


def test_wait_ends_at_notify_with_the_time_of_the_event(kernel):
    times = []

    def body() -> None:
        here = kernel.client_here()
        kernel.at(500, here.notify)
        here.wait(1000, lambda: False)
        times.append(here.local_ns)
        here.wait(1000, lambda: False)
        times.append(here.local_ns)
        here.wait(5000, lambda: True)
        times.append(here.local_ns)

    kernel.spawn(body, "waiter")
    kernel.run_until(10_000)
    assert times == [500, 1000, 1000]


def test_wake_from_another_thread_ends_the_wait_or_the_next_one(kernel):
    times = []

    def body() -> None:
        here = kernel.client_here()
        here.wake()
        here.wait(None, lambda: False)
        times.append(here.local_ns)
        kernel.at(70, lambda: waker.start())
        here.wait(None, lambda: False)
        times.append(here.local_ns)
        kernel.stop()
        here.delay(1)

    client = kernel.spawn(body, "waiter")
    waker = threading.Thread(target=lambda: kernel._by_thread[client.ident].wake())
    kernel.run()
    waker.join()
    assert times == [0, 70]


def test_the_driver_thread_may_block_like_a_client(kernel):
    ran = []
    kernel.at(10, lambda: ran.append(1))
    here = kernel.client_here()
    here.delay(50)
    assert (ran, kernel.now_ns) == ([1], 50)
    kernel.at(60, here.notify)
    here.wait(None, lambda: False)
    assert kernel.now_ns == 60


def test_a_thread_that_ends_without_saying_so_no_longer_holds_time(kernel):
    def body() -> None:
        kernel.attach("careless").delay(10)

    thread = threading.Thread(target=body)
    thread.start()
    kernel.await_clients(1)
    kernel.run_until(100)
    thread.join()
    assert kernel.now_ns == 100


def test_a_client_that_never_comes_back_is_named_after_the_patience_has_run_out():
    kernel = Kernel(patience_s=0.1)
    release = threading.Event()
    kernel.spawn(lambda: release.wait(10), "sleepy")
    with pytest.raises(ClientStalled, match="sleepy"):
        kernel.run_until(100)
    release.set()


def test_what_a_client_raises_ends_the_run(kernel):
    def body() -> None:
        kernel.client_here().delay(10)
        raise ZeroDivisionError

    kernel.spawn(body, "broken")
    with pytest.raises(ZeroDivisionError):
        kernel.run_until(100)
    assert kernel.now_ns == 10


def test_waiting_for_clients_that_do_not_come_is_an_error(kernel):
    with pytest.raises(KernelError, match="0 of 1"):
        kernel.await_clients(1, timeout_s=0.01)


def test_an_event_must_not_block(kernel):
    kernel.at(10, lambda: kernel.client_here().delay(10))
    with pytest.raises(KernelError):
        kernel.run_until(20)


def test_closing_ends_blocked_clients():
    kernel = Kernel()
    ended = []

    def body() -> None:
        try:
            kernel.client_here().wait(None, lambda: False)
        except KernelClosed:
            ended.append("closed")
            raise

    threads = [kernel.spawn(body, name) for name in "ab"]
    kernel.run_until(10)
    kernel.close()
    for thread in threads:
        thread.join(5)
    assert ended == ["closed", "closed"]
    with pytest.raises(KernelClosed):
        kernel.run_until(20)


def test_a_paced_run_takes_real_time_and_stops_from_another_thread(kernel):
    ran = []
    kernel.at(20 * MS, lambda: ran.append(time.monotonic()))
    began = time.monotonic()
    kernel.run(pace=2.0, until_ns=40 * MS)
    assert time.monotonic() - began >= 0.02
    assert ran[0] - began >= 0.01
    kernel.at(50 * MS, kernel.stop)
    kernel.run(pace=1000.0)
    assert kernel.now_ns >= 50 * MS


def test_a_stop_event_ends_a_run_that_has_nothing_to_do(kernel):
    stop = threading.Event()
    threading.Timer(0.02, stop.set).start()
    kernel.run(stop=stop)
    assert kernel.now_ns == 0


def test_a_free_running_caller_sees_time_follow_the_real_clock(kernel):
    seen = []

    def caller() -> None:
        seen.append(kernel.read_clock_ns())
        kernel.call_free(lambda: kernel.after(MS, lambda: seen.append("event")))
        while "event" not in seen:
            seen.append(kernel.read_clock_ns())
        kernel.stop()

    thread = threading.Thread(target=caller)
    kernel.after(1, thread.start)
    kernel.run(pace=1.0)
    thread.join()
    times = [t for t in seen if t != "event"]
    assert times == sorted(times)
    assert len(set(times)) > 2


def test_lockstep_clients_work_in_a_paced_run(kernel):
    times = []

    def body() -> None:
        here = kernel.client_here()
        for _ in range(3):
            here.delay(5 * MS)
            times.append(here.local_ns)

    kernel.spawn(body, "client")
    kernel.run(pace=10.0, until_ns=20 * MS)
    assert times == [5 * MS, 10 * MS, 15 * MS]


def test_calls_that_touch_nothing_of_others_run_ahead_by_200_us_at_most_and_never_past_an_event(kernel):
    order = []

    def reader() -> None:
        here = kernel.client_here()
        for _ in range(10):
            here.call(lambda: order.append(("read", kernel.now_ns // 1000)), 50_000, ahead=True)

    def sleeper() -> None:
        here = kernel.client_here()
        here.delay(10_000)
        order.append(("slept", kernel.now_ns // 1000))
        here.delay(300_000)

    kernel.spawn(reader, "a")
    kernel.spawn(sleeper, "b")
    kernel.at(120_000, lambda: order.append(("event", kernel.now_ns // 1000)))
    kernel.run_until(MS)
    assert order.index(("slept", 10)) < order.index(("event", 120)) < order.index(("read", 150))
    assert [t for name, t in order if name == "read"] == list(range(50, 501, 50))
    assert order[0] == ("read", 50)


def test_a_client_that_only_runs_ahead_still_sees_the_stop_event(kernel):
    stop = threading.Event()

    def reader() -> None:
        here = kernel.client_here()
        while True:
            here.call(lambda: None, 1, ahead=True)
            if here.local_ns > 1000:
                stop.set()

    kernel.spawn(reader, "busy")
    kernel.run(stop=stop)
    assert kernel.now_ns < 2000
