"""The Faust app, and nothing else: agents, tables and pages are put to it by `worker.py`."""

from faust.auth import Credentials, SASLCredentials, SSLCredentials

from emis_streams import engine, exposure, kafka_security, settings, topics
from emis_streams.engine.app import App
from emis_streams.engine.options import Options
from emis_streams.hints import HINTS
from emis_streams.services.catalogue import service_class
from emis_streams.services.teacher import TeacherService

__all__ = ["App", "app", "create_app"]


def create_app(config: settings.Settings) -> App:
    """The app of these settings; raises InvalidSetting where its pages would be open to all by mistake."""
    exposure.check(config)
    return App(
        topics.app_id(service_class(config.service).name),
        engine_options=Options(
            client=config.kafka_client(),
            slice_records=config.slice_records,
            slice_bytes=config.slice_bytes,
            buffered_slices=config.buffered_slices,
            # Somebody waits for the reply to a request.
            linger_seconds=config.linger_seconds if config.service == TeacherService.name else 0.0,
            drain_timeout_seconds=config.drain_timeout_seconds,
            watchdog_timeout_seconds=config.watchdog_timeout_seconds,
            hints=HINTS,
        ),
        ingests="ingest" in config.roles_enabled(),
        broker=";".join(f"{engine.SCHEME}://{server}" for server in config.bootstrap_servers),
        broker_credentials=broker_credentials(config),
        broker_client_id=config.instance,
        datadir=config.data_path,
        topic_partitions=topics.PARTITIONS,
        broker_session_timeout=config.session_timeout_seconds,
        broker_heartbeat_interval=min(3.0, config.session_timeout_seconds / 3),
        broker_rebalance_timeout=max(60.0, config.session_timeout_seconds),
        broker_request_timeout=180.0,
        broker_max_poll_interval=3600.0,
        broker_commit_interval=0.5,
        web_host=config.host,
        web_bind=config.host,
        web_port=config.port,
        web_ssl_context=exposure.ssl_context(config),
        web_tables_enabled=False,
        web_stats_enabled=False,
    )


def broker_credentials(config: settings.Settings) -> Credentials | None:
    """What the group's own consumer, which Faust makes, proves itself with: the same as all clients of ours.

    Never without a TLS context: Faust would silently take SASL in the clear.
    """
    given = kafka_security.client_arguments(config)
    if not given:
        return None
    if "sasl_mechanism" not in given:
        return SSLCredentials(given["ssl_context"])
    return SASLCredentials(
        username=given["sasl_plain_username"],
        password=given["sasl_plain_password"],
        ssl_context=given["ssl_context"],
        mechanism=given["sasl_mechanism"],
    )


app = create_app(settings.current())
