# docker build --build-arg REVISION="$(git rev-parse --short=12 HEAD)" -t feather-sync .
#
# Both stages have Debian 12's libc, which the program is linked to.
FROM rust:1.95-bookworm AS build
# Not the components that rust-toolchain.toml wants for development.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /source
COPY . .
# The context is without git.
ARG REVISION=unknown
RUN FEATHER_SYNC_REVISION=$REVISION cargo build --release --locked

# libc, libgcc and CA certificates; no shell, no package manager. The user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/feather-sync /usr/bin/feather-sync
COPY --from=build /source/LICENSE-MIT /source/LICENSE-APACHE /usr/share/doc/feather-sync/
# Asks /readyz on admin.listen. A database that is away makes it unhealthy, not the container end.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/bin/feather-sync", "healthy"]
# Longer than worker.shutdown_grace has to be what stops it: docker stop --time 35, terminationGracePeriodSeconds: 35.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/feather-sync"]
CMD ["run"]
