/**
 * Goal: the double of a Tap server is no private dialect: the official client, and another one, understand it and it understands
 * them (S4, S5, S8, S10).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TapServer from "../../src/testing/TapServer.js"
import { isInstalled } from "../servers/installed.js"
import { run, tapClients } from "./tapClients.js"

const secret = "let me: in"

const document = {
  id: "did:plc:alice",
  alsoKnownAs: ["at://alice.example.com"],
  service: [{ id: "#atproto_pds", type: "AtprotoPersonalDataServer", serviceEndpoint: "https://pds.example.com" }]
}

describe.skipIf(!isInstalled(tapClients))("Tap clients over the double", () => {
  for (const client of ["atproto", "atcute"] as const) {
    // under Node the other one sends no password to the channel
    const password = client === "atproto" ? secret : undefined
    const start = (server: TapServer.TapServer, mode: "repos" | "follow") =>
      Effect.gen(function* () {
        let look = (): void => {}
        const child = yield* run([client, mode, server.url, mode === "repos" ? secret : (password ?? "")], () => look())
        const until = (holds: () => boolean) =>
          Effect.async<void>((resume) => {
            look = () => void (holds() && resume(Effect.void))
            look()
          }).pipe(
            Effect.timeoutFail({
              duration: "15 seconds",
              onTimeout: () => `${JSON.stringify(child.printed)} ${child.said()}`
            })
          )
        const events = () => child.printed.filter(({ type }) => type !== undefined)
        const acked = () => child.printed.filter(({ acked }) => acked !== undefined).length
        return { ...child, events, acked, until }
      })

    it.scopedLive(`S10 @${client}/tap manages repositories`, () =>
      Effect.gen(function* () {
        const server = yield* TapServer.make({ password: secret })
        server.setDocument("did:plc:alice", document)
        server.record({ did: "did:plc:alice", rev: "3kb3fge5lm32x" })
        server.identity({ did: "did:plc:alice", handle: "alice.example.com" })
        const { printed, until } = yield* start(server, "repos")
        yield* until(() => printed.length > 0)
        assert.deepInclude(printed[0], {
          info: {
            did: "did:plc:alice",
            handle: "alice.example.com",
            state: "active",
            rev: "3kb3fge5lm32x",
            records: 1,
            error: "",
            retries: 0
          },
          missing: null
        })
        assert.deepInclude(printed[0]!["document"], { id: document.id, alsoKnownAs: document.alsoKnownAs })
        assert.match(String(printed[0]!["gone"]), /Not Found/)
        assert.match(String(printed[0]!["locked"]), /Unauthorized/)
        assert.deepStrictEqual([...server.repos.keys()], ["did:plc:alice"])
      })
    )

    it.scopedLive(`S4 S6 @${client}/tap reads every kind of event, and its acknowledgements free the next ones`, () =>
      Effect.gen(function* () {
        const server = yield* TapServer.make({ password })
        const { events, until } = yield* start(server, "follow")
        for (const did of ["did:plc:alice", "did:web:example.com"]) {
          server.record({ did, live: false, rkey: "self", collection: "app.bsky.actor.profile" })
          server.record({ did, rkey: "a" })
          server.record({ did, rkey: "a", action: "update", record: { $type: "app.bsky.feed.post", text: "é €" } })
          server.record({ did, rkey: "b", record: undefined })
          server.record({ did, rkey: "a", action: "delete" })
          server.identity({ did, handle: "alice.example.com", is_active: false, status: "deactivated" })
          server.record({ did, rkey: "c", record: { text: "x".repeat(200_000) } })
        }
        yield* until(() => events().length >= 14)
        yield* server.drained
        for (const did of ["did:plc:alice", "did:web:example.com"]) {
          const seen = events().filter((event) => event["did"] === did)
          assert.deepStrictEqual(
            seen.map(({ action, collection, isActive, live, rkey, status, type }) =>
              type === "record" ? [collection, rkey, action, live] : [status, isActive]
            ),
            [
              ["app.bsky.actor.profile", "self", "create", false],
              ["app.bsky.feed.post", "a", "create", true],
              ["app.bsky.feed.post", "a", "update", true],
              ["app.bsky.feed.post", "b", "create", true],
              ["app.bsky.feed.post", "a", "delete", true],
              ["deactivated", false],
              ["app.bsky.feed.post", "c", "create", true]
            ]
          )
          assert.deepStrictEqual(seen[2]!["record"], { $type: "app.bsky.feed.post", text: "é €" })
          assert.isUndefined(seen[3]!["record"])
        }
        assert.strictEqual(server.acks.length, 14)
        assert.deepStrictEqual(server.strayAcks, [])
        assert.strictEqual(server.deliveries.length, 14)
        assert.strictEqual(
          server.upgrades[0]!["authorization"]?.split(" ")[0],
          client === "atproto" ? "Basic" : undefined
        )
      })
    )

    it.scopedLive(`S5 @${client}/tap gets again what it did not acknowledge before its connection broke`, () =>
      Effect.gen(function* () {
        const server = yield* TapServer.make({ password, retryTimeout: 300 })
        const { acked, events, until } = yield* start(server, "follow")
        // what waits for a connection is queued again at each tick
        yield* server.until(() => server.connections() === 1)
        server.record({ did: "did:plc:alice", rkey: "a" })
        yield* until(() => acked() === 1)
        yield* server.drained
        server.freeze()
        server.record({ did: "did:plc:alice", rkey: "b" })
        // sent, and lost with the connection
        yield* until(() => acked() === 2)
        assert.strictEqual(server.unacked(), 1)
        server.disconnect()
        yield* server.drained
        yield* until(() => events().length >= 3)
        // more often, where it took longer to come back than a tick
        assert.match(
          events()
            .map(({ rkey }) => rkey)
            .join(""),
          /^abb+$/
        )
      })
    )
  }

  it.scopedLive(
    "S8 the double sees an acknowledgement that was meant for another event: a client that keeps them sends one",
    () =>
      Effect.gen(function* () {
        const server = yield* TapServer.make()
        const { printed } = yield* run(["atcute", "follow", server.url, ""], () => server.look())
        for (let n = 0; n < 3; n++) server.record({ did: "did:plc:alice", rkey: `a${n}` })
        yield* server.drained
        server.record({ did: "did:plc:alice", rkey: "slow", record: { waitMillis: 400 } })
        yield* server.until(() => printed.some(({ rkey }) => rkey === "slow"))
        yield* server.restart({ ids: "fromOne", downFor: "600 millis" })
        yield* server.until(() => server.strayAcks.length > 0)
        assert.deepStrictEqual(server.strayAcks, [{ connection: 2, id: 4 }])
      })
  )
})
