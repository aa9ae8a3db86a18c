"""illume serve, worker, presample, tidy."""

from __future__ import annotations

import threading

import click

from backend.cli import main
from backend.cli.opening import open_service, project_option, which_project
from backend.cli.printing import plain

#: Threads for HTTP: more than calls that may wait for the model, so that /health always finds one free.
THREADS = 32
#: Bytes read from a connection in one go: an event with its labelling configuration, whole.
RECEIVED_AT_ONCE = 65536


@main.command()
@click.option("--host", help="Address to listen on (ILLUME_HOST, default 127.0.0.1).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (ILLUME_PORT, default 9090).")
@click.option("--with-worker", is_flag=True, help="Run the worker in this process too: one model in memory.")
def serve(host: str | None, port: int | None, *, with_worker: bool) -> None:
    """Answer Label Studio: predictions, events, training requests.

    \b
    Examples:
      illume serve
      illume serve --host 0.0.0.0 --port 9090 --with-worker
    """
    import waitress

    from backend.app import create_app
    from backend.worker import Worker
    from illume_plugin.errors import SettingsError

    service = open_service(host=host, port=port)
    settings = service.settings
    app = create_app(settings, service=service)
    try:
        server = waitress.create_server(
            app,
            host=settings.host,
            port=settings.port,
            threads=THREADS,
            max_request_body_size=settings.max_body_bytes,
            recv_bytes=RECEIVED_AT_ONCE,
            channel_request_lookahead=1,  # or it is not noticed when a client hangs up
            clear_untrusted_proxy_headers=False,  # the status page must see that a proxy was passed
        )
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}).",
            why="Another program has the port, or the address is not this machine's.",
            todo="Choose another port with --port (and tell Label Studio by ILLUME_BACKEND_URL).",
        ) from error
    threading.Thread(target=service.engine.warm_up, name="warm up", daemon=True).start()
    worker = Worker(service) if with_worker else None
    if worker:
        threading.Thread(target=worker.run, kwargs={"handle_signals": False}, name="worker").start()
    click.echo(f"ILLUME listens on http://{settings.host}:{settings.port} (Ctrl-C ends it)", err=True)
    try:
        server.run()
    finally:
        if worker:
            worker.shut_down()
        service.close()


@main.command()
def worker() -> None:
    """Work in the background: take in events, ask what changed, sample ahead, push, train.

    \b
    Example:
      illume worker
    """
    from backend.worker import Worker

    service = open_service()
    Worker(service).run()
    service.close()


@main.command()
@project_option
@click.option("--dry-run", is_flag=True, help="Only say how many tasks would be sampled and pushed.")
def presample(project_id: int | None, *, dry_run: bool) -> None:
    """Sample candidates for every unjudged task now and push them to Label Studio.

    \b
    Examples:
      illume presample --project 12 --dry-run
      illume presample --project 12
    """
    from backend.presample import push_ahead, sample_ahead, waiting
    from illume_plugin.store import candidates, projects

    service = open_service()
    number = which_project(service, project_id)
    service.apply_events()
    with service.store.read() as conn:
        project = projects.get(conn, number)
        key = {"version": project.active_version, "plan": service.sampler.key(project)}
        have, pushed = candidates.count(conn, number, **key)
    total = len(waiting(service, project))
    click.echo(
        f"{total} tasks lack candidates of {project.active_version}; "
        f"{have - pushed} candidate sets are not in Label Studio yet."
    )
    if dry_run:
        return
    with click.progressbar(length=total, label="sampling") as bar:
        while done := sample_ahead(service, project):
            bar.update(done)
    count = 0
    while pushed := push_ahead(service, project, everything=True):
        count += pushed
    click.echo(f"Pushed {count} candidate sets.")
    with service.store.read() as conn:
        for task_id, (problem, _) in candidates.problems(
            conn, number, version=project.active_version
        ).items():
            click.echo(plain(f"task {task_id}: {problem}"), err=True)


@main.command()
@project_option
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def tidy(project_id: int | None, *, dry_run: bool) -> None:
    """Remove candidates of versions that served before from Label Studio; `illume worker` does so by itself.

    Judged tasks keep everything: the texts that were seen stand in the annotation. Nothing is removed while
    some unjudged task lacks candidates of the version that serves, nor within ILLUME_KEEP_PREDICTIONS_H hours
    of the switch: somebody may have a task open that shows them.

    \b
    Examples:
      illume tidy --project 12 --dry-run
      illume tidy --project 12
    """
    from backend.old_predictions import old_predictions, remove_old_predictions
    from illume_plugin.store import projects

    service = open_service()
    service.settings.token()
    number = which_project(service, project_id)
    service.apply_events()
    with service.store.read() as conn:
        project = projects.get(conn, number)
    found = (old_predictions if dry_run else remove_old_predictions)(service, project)
    verb = "Would remove" if dry_run else "Removed"
    for version, count in found.items():
        click.echo(f"{verb} {count} predictions of {version}.")
    if not found:
        click.echo("There is nothing that may be removed.")
