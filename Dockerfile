# The manager as a container. Build: docker build -t litevol .   Run: compose.yaml.
# Keeps: the last stage has no compiler, no npm cache, no developers' packages, and nothing that others than root may write.
# Plain Dockerfile syntax (no heredoc, COPY --link or COPY --chmod), so that podman's builder takes it too.

FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --include=dev --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
# What scripts/build.sh does.
RUN ./node_modules/.bin/tsc --project tsconfig.build.json && cp src/mount/keeper.sh dist/mount/
COPY bin /app/bin
COPY LICENSE /app/
RUN mv dist package.json /app/ && chmod -R u+rwX,go+rX,go-w /app && chmod 755 /app/bin/litevol /app/bin/mount.fuse.litevol

FROM node:24-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund
# better-sqlite3 carries SQLite's sources and a binary for every platform: one is used. Of fuse-native only its binary is used, with
# Debian's libfuse2.
RUN cd node_modules/better-sqlite3 && rm -rf deps src binding.gyp \
 && find prebuilds -type f ! -name "linux-$(node -p process.arch).node" -delete \
 && node -e "new (require('better-sqlite3'))(':memory:')" \
 && cd ../.. && rm -rf node_modules/fuse-shared-library* node_modules/fuse-native/prebuilds/darwin-x64 \
 && chmod -R u+rwX,go+rX,go-w node_modules

FROM node:24-bookworm-slim
LABEL org.opencontainers.image.title="litevol" \
      org.opencontainers.image.description="A volume manager for containers: every volume a complete filesystem in one SQLite file" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
# tini reaps what the manager leaves and passes SIGTERM to it alone: the manager ends its FUSE processes itself.
# mount(8) and flock(1) are in the base image already; naming them keeps it so.
RUN apt-get update \
 && apt-get install -y --no-install-recommends tini mount util-linux libfuse2 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log \
 && mkdir -p /var/lib/litevol
# The packages are a layer of their own: it stays when only litevol changes.
COPY --from=packages /app/node_modules /app/node_modules
COPY --from=build /app /app
# The link in /sbin is what mount(8) finds for the type fuse.litevol, fstab included.
RUN ln -s /app/bin/litevol /usr/local/bin/litevol \
 && ln -s /app/bin/mount.fuse.litevol /sbin/mount.fuse.litevol
# What Node compiles, which each container would do anew.
RUN litevol --version
# Mounts appear under /mnt; the host's /mnt/litevol bound there with rshared shows them to the host and so to other containers. That
# a host mount root is named makes preflight prove that they do. /dev/shm is what every container has on tmpfs, anew at each start.
ENV NODE_ENV=production \
    LITEVOL_HOST=0.0.0.0 \
    LITEVOL_PORT=8080 \
    LITEVOL_DATA_ROOT=/var/lib/litevol \
    LITEVOL_MOUNT_ROOT=/mnt \
    LITEVOL_HOST_MOUNT_ROOT=/mnt/litevol \
    LITEVOL_RUN_DIR=/dev/shm/litevol
VOLUME /var/lib/litevol
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 \
  CMD ["node", "-e", "const e = process.env; require('node:http').get({ ...(e.LITEVOL_SOCKET ? { socketPath: e.LITEVOL_SOCKET } : { host: e.LITEVOL_HOST, port: e.LITEVOL_PORT }), path: '/health', timeout: 4000 }, (r) => process.exit(r.statusCode === 200 ? 0 : 1)).on('timeout', () => process.exit(1)).on('error', () => process.exit(1))"]
# Mounting needs root and CAP_SYS_ADMIN: there is no other user to switch to.
ENTRYPOINT ["tini", "--", "litevol"]
CMD ["serve"]
