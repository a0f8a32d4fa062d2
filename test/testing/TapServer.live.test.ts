/**
 * Goal: over real sockets and HTTP the double of a Tap server does what the real one does (S4, S5, S6, S8, S10).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import * as TapServer from "../../src/testing/TapServer.js"

interface Client {
  readonly socket: WebSocket
  readonly ids: Array<number>
  readonly ack: (id: number) => void
}

/** A client that does nothing by itself. */
const connect = (
  server: TapServer.TapServer,
  headers: Record<string, string> = {}
): Effect.Effect<Client, string, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Client, string>((resume) => {
      const socket = new WebSocket(`${server.url.replace("http", "ws")}/channel`, { headers })
      const ids: Array<number> = []
      socket.on("message", (data) => {
        ids.push(JSON.parse(String(data)).id)
        server.look()
      })
      socket.on("error", (error) => resume(Effect.fail(error.message)))
      const ack = (id: number): void => socket.send(`{"type":"ack","id":${id}}`)
      socket.on("open", () => resume(Effect.succeed({ socket, ids, ack })))
    }),
    ({ socket }) => Effect.sync(() => socket.terminate())
  )

const closeCode = ({ socket }: Client): Effect.Effect<number> =>
  Effect.async((resume) => {
    socket.once("close", (code) => resume(Effect.succeed(code)))
  })

/** Waits for one turn through the server and back. */
const turn = ({ socket }: Client): Effect.Effect<void> =>
  Effect.async((resume) => {
    socket.once("pong", () => resume(Effect.void))
    socket.ping()
  })

const request = (server: TapServer.TapServer, path: string, init: RequestInit = {}) =>
  Effect.promise(async () => {
    const response = await fetch(server.url + path, init)
    const text = await response.text()
    return [response.status, text === "" ? undefined : JSON.parse(text)] as const
  })

const post = (body: string, contentType = "application/json"): RequestInit => ({
  method: "POST",
  body,
  headers: { "content-type": contentType }
})

describe("TapServer", () => {
  it.scopedLive("S6 sends each event to one of its connections, and the next live one of a DID to any", () =>
    Effect.gen(function* () {
      const server = yield* TapServer.make()
      const one = yield* connect(server)
      const two = yield* connect(server)
      for (let n = 0; n < 10; n++) server.record({ did: `did:plc:${n}` })
      yield* server.until(() => one.ids.length + two.ids.length === 10)
      assert.deepStrictEqual([one.ids.length, two.ids.length], [5, 5])
      server.record({ did: "did:plc:0" })
      yield* turn(one)
      yield* turn(two)
      assert.strictEqual(one.ids.length + two.ids.length, 10)
      // an acknowledgement counts, whatever connection it comes over
      two.ack(1)
      yield* server.until(() => one.ids.length + two.ids.length === 11)
      assert.strictEqual(server.unacked(), 10)
    })
  )

  it.scopedLive("S5 sends what was sent over a lost connection again after the timeout, not before", () =>
    Effect.gen(function* () {
      const server = yield* TapServer.make({ retryTimeout: 200 })
      const one = yield* connect(server)
      const start = performance.now()
      server.record({ did: "did:plc:a" })
      yield* server.until(() => one.ids.length === 1)
      server.disconnect()
      assert.strictEqual(yield* closeCode(one), 1006)
      const two = yield* connect(server)
      yield* server.until(() => two.ids.length === 1)
      assert.isAtLeast(performance.now() - start, 199)
      assert.deepStrictEqual(two.ids, [1])
    })
  )

  it.scopedLive("hangs up on what is no acknowledgement, and ignores what is of another type", () =>
    Effect.gen(function* () {
      const server = yield* TapServer.make()
      for (const message of ["ack", "[1]", '{"type":"ack","id":"1"}', '{"type":"ack","id":-1}', '{"type":7,"id":1}']) {
        const client = yield* connect(server)
        client.socket.send(message)
        assert.strictEqual(yield* closeCode(client), 1006, message)
      }
      const client = yield* connect(server)
      server.record({ did: "did:plc:a" })
      for (const message of ["null", '{"type":"nack","id":1}', '{"id":1}', '{"type":"ack","id":1,"why":"done"}']) {
        assert.strictEqual(server.unacked(), 1)
        client.socket.send(message)
        yield* turn(client)
      }
      assert.strictEqual(server.unacked(), 0)
    })
  )

  it.scopedLive("S5 without acks, an event is done once it was written", () =>
    Effect.gen(function* () {
      const server = yield* TapServer.make({ acks: false })
      server.record({ did: "did:plc:a" })
      server.record({ did: "did:plc:a" })
      const client = yield* connect(server)
      yield* server.until(() => client.ids.length === 2)
      client.ack(1)
      yield* turn(client)
      assert.deepStrictEqual([server.unacked(), server.acks.length], [0, 0])
    })
  )

  it.scopedLive(
    "S8 counts from 1 again behind a restart that lost its database, and sees acks of the old numbers",
    () =>
      Effect.gen(function* () {
        const server = yield* TapServer.make()
        const one = yield* connect(server)
        for (let n = 0; n < 3; n++) server.record({ did: `did:plc:${n}` })
        yield* server.until(() => one.ids.length === 3)
        one.ack(1)
        yield* server.until(() => server.unacked() === 2)
        const gone = yield* Effect.fork(closeCode(one))
        yield* server.restart({ ids: "fromOne" })
        assert.strictEqual(yield* gone, 1006)
        const two = yield* connect(server)
        yield* server.until(() => two.ids.length === 2)
        assert.deepStrictEqual(two.ids, [1, 2])
        two.ack(3)
        two.ack(1)
        yield* server.until(() => server.acks.length === 3)
        assert.deepStrictEqual(server.strayAcks, [{ connection: 2, id: 3 }])
      })
  )

  it.scopedLive("S8 goes on counting behind a restart, and sends what was not deleted again", () =>
    Effect.gen(function* () {
      const server = yield* TapServer.make({ deleteBatch: 2 })
      const one = yield* connect(server)
      for (let n = 0; n < 4; n++) server.record({ did: `did:plc:${n}` })
      yield* server.until(() => one.ids.length === 4)
      for (const id of [1, 2, 3]) one.ack(id)
      yield* server.until(() => server.unacked() === 1)
      yield* server.restart()
      const two = yield* connect(server)
      yield* server.until(() => two.ids.length === 2)
      assert.deepStrictEqual(two.ids, [3, 4])
      assert.strictEqual(server.record({ did: "did:plc:x" }), 6)
    })
  )

  it.scopedLive("lets nobody in without the password, and refuses the channel where told to", () =>
    Effect.gen(function* () {
      const server = yield* TapServer.make({ password: "pass" })
      const authorization = `Basic ${Buffer.from("admin:pass").toString("base64")}`
      assert.match(yield* Effect.flip(connect(server)), /401/)
      assert.match(yield* Effect.flip(connect(server, { authorization: "Basic YWRtaW46" })), /401/)
      assert.strictEqual((yield* request(server, "/health"))[0], 401)
      server.refuse(503, 2)
      assert.match(yield* Effect.flip(connect(server, { authorization })), /503/)
      assert.match(yield* Effect.flip(connect(server, { authorization })), /503/)
      yield* connect(server, { authorization })
      assert.deepStrictEqual(yield* request(server, "/health", { headers: { authorization } }), [200, { status: "ok" }])
    })
  )

  it.scopedLive("answers nothing while it is frozen", () =>
    Effect.gen(function* () {
      const server = yield* TapServer.make()
      const client = yield* connect(server)
      server.freeze()
      assert.isTrue((yield* Effect.timeoutOption(turn(client), 100))._tag === "None")
      server.thaw()
      yield* turn(client)
      const gone = yield* Effect.fork(closeCode(client))
      yield* Effect.yieldNow()
      server.disconnect(1012)
      assert.strictEqual(yield* gone, 1012)
    })
  )

  it.scopedLive("S10 answers as the management of the real one", () =>
    Effect.gen(function* () {
      const server = yield* TapServer.make({ collections: ["app.bsky.feed.*"] })
      assert.isUndefined(server.record({ did: "did:plc:a", collection: "app.bsky.graph.follow", rkey: "1" }))
      assert.strictEqual(server.record({ did: "did:plc:a", rkey: "1" }), 1)
      server.record({ did: "did:plc:a", rkey: "1", action: "delete" })
      const answers = [
        ["/stats/repo-count", 200, { repo_count: 1 }],
        ["/stats/record-count", 200, { record_count: 1 }],
        ["/stats/outbox-buffer", 200, { outbox_buffer: 2 }],
        ["/stats/resync-buffer", 200, { resync_buffer: 0 }],
        ["/stats/cursors", 200, { firehose: 0 }],
        ["/resolve/alice", 400, { message: "improperly formatted DID" }],
        ["/resolve/did:plc:a", 404, { message: "DID not found" }],
        ["/info/did:plc:b", 404, { message: "repo not found" }],
        ["/nothing", 404, { message: "Not Found" }],
        ["/repos/add", 405, { message: "Method Not Allowed" }]
      ] as const
      for (const [path, ...answer] of answers)
        assert.deepStrictEqual<unknown>(yield* request(server, path), answer, path)
      const edits = [
        [post('{"dids":["did:plc:b"]}'), 200],
        [post('{"dids":["did:plc:b"]}', "text/plain"), 415],
        [post("{"), 400],
        [post('{"dids":[1]}'), 400],
        [post('{"dids":[]}'), 500],
        [post(""), 500]
      ] as const
      for (const [init, status] of edits) assert.strictEqual((yield* request(server, "/repos/add", init))[0], status)
      assert.deepStrictEqual([...server.repos.keys()], ["did:plc:a", "did:plc:b"])
      // what is in the outbox stays there
      assert.strictEqual((yield* request(server, "/repos/remove", post('{"dids":["did:plc:a"]}')))[0], 200)
      assert.deepStrictEqual([[...server.repos.keys()], server.unacked()], [["did:plc:b"], 2])
    })
  )
})
