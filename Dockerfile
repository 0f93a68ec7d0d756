# The gate as a container image: docker build -t tidegate .
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY policies policies
COPY benches benches
RUN cargo build --locked --release --bin tidegate

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home tidegate \
    && install -d -o tidegate -m 0700 /var/lib/tidegate
COPY --from=build /source/target/release/tidegate /usr/local/bin/tidegate
USER 10001
ENV TIDEGATE_CONFIG=/etc/tidegate/tidegate.toml
# Grants, the admin token and the audit log: keep it.
VOLUME /var/lib/tidegate
EXPOSE 7432
# SIGTERM drains: give it longer than drain.limit (docker stop --time).
ENTRYPOINT ["tidegate"]
CMD ["serve"]
