"""``python -m worker``: loads the models, then works until SIGTERM or Ctrl-C. See celery_app.py."""

from worker.celery_app import main

main()
