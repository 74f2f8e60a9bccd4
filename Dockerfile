# A static binary in an empty image, run by a user without rights, with its data in a volume.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/quorumhub . && mkdir -m 700 /out/data

FROM scratch
# The certificates that https callbacks and topics are checked with.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/quorumhub /quorumhub
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# A container listens on all its addresses, which the hub does only when auth.mode says so: the image leaves that to whoever
# runs it (QUORUMHUB_AUTH_MODE=open).
ENV QUORUMHUB_HTTP_ADDR=0.0.0.0:8080 QUORUMHUB_DATA_DIR=/data
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["/quorumhub"]
CMD ["serve"]
