/**
 * Goal: the adapter keeps the contract of object stores against a server that is not ours, and every way to open a container
 * opens it. Method: Azurite, which checks signatures.
 */
import { assert, describe, it } from "@effect/vitest"
import { Azure } from "effect-periscope/objects"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { ObjectStoreContract } from "effect-periscope/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { createHmac } from "node:crypto"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll } from "vitest"
import * as azureKey from "../../src/objects/azureKey.js"
import { isInstalled } from "../servers/installed.js"
import { freePort, startProcess } from "../servers/serverProcess.js"

const main = fileURLToPath(
  new URL("../../.generated/servers/node_modules/azurite/dist/src/blob/main.js", import.meta.url)
)
const azurite = {
  name: "Azurite",
  commands: [process.execPath],
  files: [main],
  install: "bash test/servers/install.sh"
}

const account = "devstoreaccount1"
// Azurite's own, the same everywhere
const key = Redacted.make("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")

let port = 0
const endpoint = () => `http://127.0.0.1:${port}/${account}`

const start = Effect.gen(function* () {
  port = yield* freePort
  const args = ["--blobHost", "127.0.0.1", "--blobPort", String(port), "--inMemoryPersistence"]
  yield* startProcess({
    command: process.execPath,
    args: [main, ...args, "--skipApiVersionCheck", "--silent", "--disableTelemetry"],
    port
  })
})

/** The containers themselves are no business of an object store. */
const createContainer = (container: string) =>
  Effect.promise(async () => {
    const url = `${endpoint()}/${container}?restype=container`
    const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" }
    const request = { operation: "put", method: "PUT", url, headers } as const
    const authorization = azureKey.authorization(request, account, key)
    const response = await fetch(url, { method: "PUT", headers: { ...headers, authorization } })
    assert.strictEqual(response.status, 201, await response.text())
  })

let containers = 0
const emptyContainer = Effect.suspend(() => {
  const container = `container-${++containers}`
  return Effect.as(createContainer(container), container)
})

const client = Layer.build(NodeClient.layer())

const open = (container: string, options: Partial<Azure.Options> = {}) =>
  Effect.flatMap(client, (context) =>
    Effect.provide(
      Azure.make({ container, account, endpoint: endpoint(), credentials: Azure.accountKey(key), ...options }),
      context
    )
  )

describe.skipIf(!isInstalled(azurite))("Azure on Azurite", () => {
  const scope = Effect.runSync(Scope.make())
  beforeAll(() => Effect.runPromise(Scope.extend(start, scope)))
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  ObjectStoreContract.suite(
    { describe, it },
    {
      name: "Azure on Azurite",
      // Azure's own listings are in the order of UTF-8 bytes, those of Azurite are not
      order: "unspecified",
      wrongToken: "page",
      cannotHold: ["dots", "backslashes"],
      // it answers a listing with 500 as soon as it would have to name one of them
      untried: ["controls", "nul", "nonCharacters"],
      make: Effect.flatMap(emptyContainer, (container) => open(container)),
      missing: Effect.suspend(() => open("missing"))
    }
  )

  const failure = (container: string, options: Partial<Azure.Options>) =>
    Effect.flatMap(open(container, options), (store) => Effect.flip(store.listPage()))

  /** A signature for the whole account, as its owner makes one. */
  const signature = (permissions: string, endsAt: string): Redacted.Redacted => {
    const [version, services, types] = ["2020-12-06", "b", "sco"]
    const text = [account, permissions, services, types, "", endsAt, "", "", version, "", ""].join("\n")
    const sig = createHmac("sha256", Buffer.from(Redacted.value(key), "base64"))
      .update(text)
      .digest("base64")
    const query = { sv: version, ss: services, srt: types, sp: permissions, se: endsAt, sig }
    return Redacted.make(`?${new URLSearchParams(query)}`)
  }

  it.scopedLive("a connection string and a signature open a container, as far as they allow", () =>
    Effect.gen(function* () {
      const container = yield* emptyContainer
      const connection = `AccountName=${account};AccountKey=${Redacted.value(key)};BlobEndpoint=${endpoint()}`
      const credentials = Azure.connectionString(Redacted.make(connection))
      const owner = yield* open(container, { credentials, account: undefined, endpoint: undefined })
      yield* owner.put("a b/ü", "content")
      const reader = yield* open(container, { credentials: Azure.sas(signature("rl", "2100-01-01T00:00:00Z")) })
      const [listed] = (yield* reader.listPage({ prefix: "a b/" })).objects
      assert.deepStrictEqual(listed, yield* owner.head("a b/ü"))
      assert.strictEqual(yield* Stream.mkString(Stream.decodeText(reader.get("a b/ü"))), "content")
      assert.strictEqual((yield* Effect.flip(reader.put("b", "b"))).reason, "Unauthorized")
      assert.strictEqual((yield* Effect.flip(reader.remove("a b/ü"))).reason, "Unauthorized")
    })
  )

  it.scopedLive(
    "wrong credentials are Unauthorized, another account is MissingContainer or Unauthorized, never empty",
    () =>
      Effect.gen(function* () {
        const container = yield* emptyContainer
        const wrongKey = Azure.accountKey(Redacted.make(Buffer.alloc(64).toString("base64")))
        const ended = Azure.sas(signature("rl", "2020-01-01T00:00:00Z"))
        for (const credentials of [wrongKey, ended, "anonymous"] as const) {
          const error = yield* failure(container, { credentials })
          assert.include(["Unauthorized", "MissingContainer"], error.reason)
          assert.isFalse(error.isRetryable)
        }
        assert.strictEqual((yield* failure(container, { credentials: wrongKey })).reason, "Unauthorized")
        assert.strictEqual(
          (yield* failure(container, { endpoint: `http://127.0.0.1:${port}/nobody` })).isRetryable,
          false
        )
      })
  )
})
