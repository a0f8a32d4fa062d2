/**
 * Ceph RGW, a real S3 server, on loopback: `rgw.sh` says how it is started and what it checks.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { AwsV4Signer } from "aws4fetch"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { Effect, Redacted, Schedule, type Scope } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"
import type { Server } from "./installed.js"
import { freePort, ServerError, startProcess } from "./serverProcess.js"

export const rgw: Server = {
  name: "Ceph RGW",
  commands: ["bash", "radosgw", "radosgw-admin", "ceph-mon", "ceph-osd"],
  install: "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd"
}

const accessKeyId = "AKTEST"
const secretAccessKey = "SKTEST"

export const credentials = { accessKeyId, secretAccessKey: Redacted.make(secretAccessKey) }

export interface Rgw {
  readonly endpoint: string
  readonly createBucket: (name: string) => Effect.Effect<void>
}

const script = fileURLToPath(new URL("rgw.sh", import.meta.url))

/** Starts the server, which stops with the scope. */
export const startRgw: Effect.Effect<Rgw, ServerError, Scope.Scope> = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(path.join(tmpdir(), "periscope-rgw-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }))
  )
  const port = yield* freePort
  const monitorPort = yield* freePort
  yield* startProcess({
    command: "bash",
    args: [script, folder, String(port), String(monitorPort)],
    port,
    within: "60 seconds"
  })
  const endpoint = `http://127.0.0.1:${port}`
  const request = (name: string) =>
    Effect.gen(function* () {
      const url = `${endpoint}/${name}`
      const signer = new AwsV4Signer({
        url,
        method: "PUT",
        accessKeyId,
        secretAccessKey,
        service: "s3",
        region: "us-east-1"
      })
      const { headers } = yield* Effect.promise(() => signer.sign())
      const response = yield* HttpClient.execute(HttpClientRequest.put(url, { headers }))
      const body = yield* response.text
      return response.status === 200 ? undefined : `${response.status} ${body}`
    }).pipe(
      Effect.catchAll((error) => Effect.succeed(String(error))),
      Effect.scoped,
      Effect.provide(NodeClient.layer())
    )
  const createBucket = (name: string) =>
    Effect.flatMap(request(name), (problem) => (problem === undefined ? Effect.void : Effect.dieMessage(problem)))
  // the keys are made when the server is there
  yield* request("ready-bucket").pipe(
    Effect.repeat({ until: (problem) => problem === undefined, schedule: Schedule.spaced("200 millis") }),
    Effect.timeoutFail({
      duration: "30 seconds",
      onTimeout: () => new ServerError({ message: "Ceph RGW takes no keys." })
    })
  )
  return { endpoint, createBucket }
})
