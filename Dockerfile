# A static binary in an empty image, run by an unprivileged user, with its data in a volume.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The image has no .git: docker build --build-arg VERSION=$(git describe --tags --always) --build-arg COMMIT=$(git rev-parse HEAD) .
ARG VERSION= COMMIT=
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X quorumhub/cli/node.linkedVersion=$VERSION -X quorumhub/cli/node.linkedCommit=$COMMIT" -o /out/quorumhub . && mkdir -m 700 /out/data

FROM scratch
# The certificate authorities for https callbacks and topics.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/quorumhub /quorumhub
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# A container must listen on all its addresses, which the hub refuses to do without auth.mode. That choice is left to whoever runs
# the image: QUORUMHUB_AUTH_MODE=required with QUORUMHUB_AUTH_FILE, or QUORUMHUB_AUTH_MODE=open.
ENV QUORUMHUB_HTTP_ADDR=0.0.0.0:8080 QUORUMHUB_DATA_DIR=/data
VOLUME /data
# The node is found by its configuration: give that with QUORUMHUB_CONFIG or other variables rather than to serve alone.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/quorumhub", "healthcheck"]
EXPOSE 8080
ENTRYPOINT ["/quorumhub"]
CMD ["serve"]
