# Web process and worker of ILLUME for Label Studio.
#   docker build -t illume .
#   docker run -p 9090:9090 -v illume:/data -e ILLUME_LABEL_STUDIO_URL=... -e ILLUME_LABEL_STUDIO_TOKEN=... illume
#   docker run -v illume:/data -e ... illume worker
FROM python:3.11-slim

# "torch" takes the default build; name another requirement for a CPU or CUDA build of your choice.
ARG TORCH=torch

RUN useradd --create-home --uid 10001 illume && mkdir /data && chown illume /data
WORKDIR /app
COPY pyproject.toml README.md ./
COPY backend backend
COPY illume_plugin illume_plugin
COPY label_config label_config
# label-studio-ml without its pins: they hold Flask 1.1 and Jinja2 3.0 (docs/adr/0001)
RUN pip install --no-cache-dir "$TORCH" \
 && pip install --no-cache-dir ".[ls-ml,postgresql,s3]" \
 && pip install --no-cache-dir --no-deps label-studio-ml==1.0.9

USER illume
ENV ILLUME_DATA_DIR=/data ILLUME_HOST=0.0.0.0 ILLUME_PORT=9090 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 9090
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s CMD \
  python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/health', timeout=2)"
ENTRYPOINT ["illume"]
CMD ["serve"]
