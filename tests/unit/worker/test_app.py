import pytest

from core.jobs.dispatcher import SMALL_QUEUE
from worker.app import QUEUES, make_app


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1/0"])
def test_only_json_and_no_results(url: str | None) -> None:
    conf = make_app(url).conf
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"
    assert conf.result_backend is None
    assert conf.task_ignore_result


def test_the_broker_never_delivers_again_while_an_attempt_may_run() -> None:
    conf = make_app("redis://127.0.0.1:1/0", deadline_s=10_000).conf
    timeouts = {
        conf.visibility_timeout,
        conf.broker_transport_options["visibility_timeout"],
        conf.result_backend_transport_options["visibility_timeout"],
    }
    assert timeouts == {11_800}


def test_delivery_is_late_acknowledged_one_at_a_time_and_never_rejected() -> None:
    conf = make_app(None).conf
    assert conf.task_acks_late
    assert not conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert not conf.worker_cancel_long_running_tasks_on_connection_loss


def test_there_are_exactly_the_known_queues() -> None:
    app = make_app(None)
    assert set(app.amqp.queues) == set(QUEUES)
    assert app.conf.task_default_queue == SMALL_QUEUE
    assert not app.conf.task_create_missing_queues


def test_only_publishers_give_up_on_the_broker() -> None:
    url = "redis://127.0.0.1:1/0"
    assert "max_retries" not in make_app(url).conf.broker_transport_options
    assert make_app(url, publisher=True).conf.broker_transport_options["max_retries"] == 1


def test_an_application_does_not_become_the_current_one_of_the_process() -> None:
    from celery import current_app

    assert current_app.main != make_app(None).main
