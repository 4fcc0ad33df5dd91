# One image for web, worker and beat; docker-compose.yml says which command each runs.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.txt /tmp/requirements.txt
RUN /opt/venv/bin/pip install -r /tmp/requirements.txt

FROM python:3.11-slim
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 VAR_DIR=/var/lib/lifecycle-crm \
    DJANGO_SETTINGS_MODULE=lifecycle_crm.settings
# A user without a password, a shell or anything to own but its data.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin crm \
    && install -d -o crm -g crm /var/lib/lifecycle-crm
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/lifecycle-crm
COPY . .
# Collected at build: the running container cannot write to its own program. The settings keep a throw-away key here.
RUN VAR_DIR=/tmp/build python manage.py collectstatic --no-input --verbosity 0 \
    && rm -rf /tmp/build && python -m compileall -q customers stages loyalty feedback campaigns lifecycle_crm
USER crm
VOLUME /var/lib/lifecycle-crm
EXPOSE 8000
# Asks under the site's own name, which ALLOWED_HOSTS knows, and as the proxy would, so that https is not asked for again.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import os, urllib.parse as p, \
urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:8000/health/', headers={'X-Forwarded-Proto': 'https', \
'Host': p.urlsplit(os.environ.get('SITE_URL', 'http://localhost')).netloc}), timeout=4)"]
CMD ["gunicorn", "lifecycle_crm.wsgi:application", "--bind", "0.0.0.0:8000", "--no-control-socket", "--workers", "2", "--threads", "4", \
     "--access-logfile", "-", "--worker-tmp-dir", "/dev/shm", "--max-requests", "5000", "--max-requests-jitter", "500"]
