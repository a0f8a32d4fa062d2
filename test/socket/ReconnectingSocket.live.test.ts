import { assert, describe, it } from "@effect/vitest"
import { Socket } from "@effect/platform"
import { Cause, Effect, Either, Exit, Fiber, Layer, Logger, LogLevel, Option, Schedule, Stream } from "effect"
import { Connector, ReconnectingSocket } from "effect-periscope/socket"
import * as NodeConnector from "effect-periscope/socket/NodeConnector"
import type { Socket as NetSocket } from "node:net"
import type { WebSocket } from "ws"
import { WebSocket as WsSocket } from "ws"
import { ca, clientCert, clientKey, otherCa, serverCert, serverKey } from "../http/certificates.js"
import { serve, until } from "./server.js"

interface Event {
  readonly id: number
  readonly key: string
}

const frame = (id: number, key = `event ${id}`): string => JSON.stringify({ id, key })

const decode = (text: Connector.Frame): Event => JSON.parse(String(text)) as Event

/** Quick enough for a test. */
const base = {
  name: "feed",
  decode,
  ack: ({ id }: Event) => `ack ${id}`,
  key: ({ key }: Event) => key,
  backoff: Schedule.spaced("5 millis")
}

type Options = Partial<ReconnectingSocket.Options<Event>> & { readonly url: string }

const node = NodeConnector.layer()

/** What is lost on purpose is not to be read. */
const quietly = Logger.withMinimumLogLevel(LogLevel.None)

/** Follows in the background, and notes down what was handled. */
const follow = (
  options: Options,
  layer: Layer.Layer<Connector.Connector> = node,
  handling: Effect.Effect<unknown> = Effect.void
) =>
  Effect.gen(function* () {
    const handled: Array<string> = []
    const socket = yield* Effect.provide(ReconnectingSocket.make<Event>({ ...base, ...options }), layer)
    const fiber = yield* Effect.forkScoped(
      quietly(Effect.exit(socket.runForEach(({ key }) => Effect.map(handling, () => handled.push(key)))))
    )
    return { handled, socket, fiber }
  })

/** The error that a socket ends with. */
const ending = (options: Options, layer = node) =>
  Effect.gen(function* () {
    const { fiber } = yield* follow(options, layer)
    const exit = yield* Fiber.join(fiber)
    return Exit.isFailure(exit) ? Option.getOrThrow(Cause.failureOption(exit.cause)) : assert.fail("it has ended well")
  })

/** Keeps what a client sends. */
const hearing = (heard: Array<string>) => (socket: WebSocket) =>
  socket.on("message", (data) => heard.push(String(data)))

describe("ReconnectingSocket over ws", () => {
  it.scopedLive("S5 receives, handles, acks, and says goodbye with 1000", () =>
    Effect.gen(function* () {
      const heard: Array<string> = []
      let goodbye: number | undefined
      const { url } = yield* serve({
        onConnection: (socket) => {
          hearing(heard)(socket)
          socket.on("close", (code) => (goodbye = code))
          for (let id = 1; id <= 3; id++) socket.send(frame(id))
        }
      })
      const { fiber, handled } = yield* follow({ url })
      yield* until("acks", () => heard.length === 3)
      assert.deepStrictEqual(handled, ["event 1", "event 2", "event 3"])
      assert.deepStrictEqual(heard, ["ack 1", "ack 2", "ack 3"])
      yield* Fiber.interrupt(fiber)
      yield* until("goodbye", () => goodbye === 1000)
    })
  )

  it.scopedLive("S2 survives cuts, resets and every close code but the fatal ones", () =>
    Effect.gen(function* () {
      const codes = [1000, 1001, 1005, 1008, 1010, 1011, 1012, 1013, 1014, 4999]
      const reasons: Array<string> = []
      const endings: ReadonlyArray<(socket: WebSocket, transport: NetSocket) => void> = [
        ...codes.map((code) => (socket: WebSocket) => (code === 1005 ? socket.close() : socket.close(code, "words"))),
        // cut without a close frame, reset, and cut within a frame
        (_, transport) => transport.end(),
        (_, transport) => transport.resetAndDestroy(),
        (_, transport) => transport.end(Buffer.from([0x81, 0x7e, 0x01, 0x00, 0x7b]))
      ]
      const heard: Array<string> = []
      const { url } = yield* serve({
        onConnection: (socket, n, request) => {
          hearing(heard)(socket)
          socket.send(frame(1, `event ${n}`))
          socket.once("message", () => endings[n - 1]?.(socket, request.socket))
        }
      })
      const { handled, socket } = yield* follow({ url })
      yield* Effect.forkScoped(
        Stream.runForEach(socket.status.changes, ({ phase }) =>
          Effect.sync(() => phase._tag === "Waiting" && reasons.push(`${phase.error.reason} ${phase.error.code}`))
        )
      )
      const count = endings.length + 1
      yield* until("all endings", () => heard.length === count)
      assert.deepStrictEqual(
        handled,
        Array.from({ length: count }, (_, n) => `event ${n + 1}`)
      )
      assert.strictEqual((yield* socket.status.get).connections, count)
      assert.deepStrictEqual(
        [...new Set(reasons)].sort(),
        [...codes, 1006].sort().map((code) => `Closed ${code}`)
      )
    })
  )

  for (const [code, bytes] of [
    [1002, [0x83, 0x00]],
    [1007, [0x81, 0x02, 0xc3, 0x28]]
  ] as const) {
    it.scopedLive(`S2 a frame that breaks the protocol ends it with ${code}`, () =>
      Effect.gen(function* () {
        let told: number | undefined
        const { url } = yield* serve({
          onConnection: (socket, _, request) => {
            socket.on("close", (code) => (told = code))
            request.socket.write(Buffer.from(bytes))
          }
        })
        const error = yield* ending({ url })
        assert.deepInclude(error, { _tag: "SocketError", reason: "Closed", code })
        yield* until("the peer is told", () => told === code)
      })
    )
  }

  it.scopedLive("S2 a close with 1003 or 1009 of the peer is fatal", () =>
    Effect.gen(function* () {
      for (const code of [1003, 1009]) {
        const { url } = yield* serve({ onConnection: (socket) => socket.close(code) })
        assert.deepInclude(yield* ending({ url }), { reason: "Closed", code })
      }
    })
  )

  it.scopedLive("S2 statuses of the upgrade: fatal or not, and what they ask to wait", () =>
    Effect.gen(function* () {
      const answer = (status: number, ...headers: ReadonlyArray<string>) => ({
        onUpgrade: (n: number, stream: NodeJS.WritableStream) => {
          if (n > 1) return false
          stream.end([`HTTP/1.1 ${status} No`, "Content-Length: 6", ...headers, "", "secret"].join("\r\n"))
          return true
        }
      })
      for (const status of [400, 401, 403]) {
        const { url } = yield* serve(answer(status))
        const error = yield* ending({ url })
        assert.deepInclude(error, { reason: "Refused", status, isRetryable: false })
        assert.notInclude(String(error), "secret")
      }
      const date = "Date: Fri, 21 Nov 2025 12:00:00 GMT"
      for (const [status, headers, wait] of [
        [429, ["Retry-After: 90"], 90_000],
        [503, [date, "Retry-After: Fri, 21 Nov 2025 12:02:00 GMT"], 120_000],
        [503, ["Retry-After: soon"], 5],
        [502, [], 5]
      ] as const) {
        const { upgrades, url } = yield* serve(answer(status, ...headers))
        const { socket } = yield* follow({ url })
        const waiting = yield* socket.status.changes.pipe(
          Stream.filterMap(({ phase }) => (phase._tag === "Waiting" ? Option.some(phase) : Option.none())),
          Stream.runHead,
          Effect.flatten,
          Effect.orDie
        )
        assert.deepInclude(waiting.error, { reason: "Refused", status })
        assert.approximately(waiting.until - Date.now(), wait, 1000)
        if (wait === 5) yield* until("reconnected", () => upgrades() === 2)
      }
    })
  )

  it.scopedLive("no server, no name, no WebSocket: unreachable, with a code and without the address", () =>
    Effect.gen(function* () {
      const { port } = yield* Effect.scoped(serve({}))
      const web = yield* serve({
        onUpgrade: (_, stream) => {
          stream.end("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
          return true
        }
      })
      for (const [url, message] of [
        [`ws://127.0.0.1:${port}/?token=secret`, "feed: no connection (ECONNREFUSED)."],
        ["ws://nowhere.invalid/?token=secret", /^feed: no connection \((ENOTFOUND|EAI_AGAIN)\)\.$/],
        [web.url, "feed: no connection (it was not a WebSocket's answer)."]
      ] as const) {
        const error = yield* ending({ url, maxReconnectAttempts: 0 })
        assert.strictEqual(error.reason, "Unreachable")
        if (typeof message === "string") assert.strictEqual(error.message, message)
        else assert.match(error.message, message)
      }
    })
  )

  it.scopedLive("S1 a server that accepts and closes is asked no more often than its backoff says", () =>
    Effect.gen(function* () {
      const { upgrades, url } = yield* serve({ onConnection: (socket) => socket.close(1000) })
      const { socket } = yield* follow({ url, backoff: Schedule.exponential("20 millis") })
      yield* Effect.sleep("500 millis")
      // 20, 40, 80, 160 and 320 ms; the last of them may be over
      assert.isAtLeast(upgrades(), 4)
      assert.isAtMost(upgrades(), 6)
      assert.strictEqual((yield* socket.status.get).phase._tag, "Waiting")
    })
  )

  it.scopedLive("S2 a half-open connection is noticed, and what was not acked comes again", () =>
    Effect.gen(function* () {
      const heard: Array<string> = []
      const { url } = yield* serve({
        onConnection: (socket, n, request) => {
          hearing(heard)(socket)
          socket.send(frame(1, "a"))
          // reads nothing and answers no ping, as a machine that is gone
          if (n === 1) request.socket.pause()
        }
      })
      const { handled, socket } = yield* follow({ url, pingInterval: "50 millis", idleTimeout: "200 millis" })
      yield* until("the ack on the second connection", () => heard.length === 1)
      assert.deepStrictEqual(handled, ["a"])
      // alive by pings and pongs alone
      yield* Effect.sleep("500 millis")
      assert.strictEqual((yield* socket.status.get).connections, 2)
    })
  )

  it.scopedLive("what does not answer the upgrade is given up after the open timeout", () =>
    Effect.gen(function* () {
      let isGone = false
      const { upgrades, url } = yield* serve({
        onUpgrade: (n, stream) => {
          // of this side nobody closes it
          if (n === 1) stream.resume().on("end", () => (isGone = true))
          return n === 1
        }
      })
      const { socket } = yield* follow({ url, openTimeout: "100 millis" })
      yield* until("reconnected", () => upgrades() === 2 && isGone)
      yield* until("open", () => Effect.runSync(socket.status.get).phase._tag === "Open")
    })
  )

  it.scopedLive("S8 a server that restarts, with ids from 1, gets no ack that is meant for another event", () =>
    Effect.gen(function* () {
      const lives: Array<Map<string, string>> = []
      const wrong: Array<string> = []
      let next = 0
      const pending: Array<string> = []
      const { url } = yield* serve({
        onConnection: (socket, n) => {
          // ids are counted anew in each life; what was not acked comes again, behind something new
          const ids = new Map<string, string>()
          lives.push(ids)
          const send = (key: string): void => {
            const id = ids.size + 1
            ids.set(`ack ${id}`, key)
            socket.send(frame(id, key))
          }
          pending.unshift(`life ${n}`)
          for (let count = 0; count < 20; count++) pending.push(`event ${next++}`)
          for (const key of [...pending]) send(key)
          let acks = 0
          socket.on("message", (data) => {
            const key = ids.get(String(data))
            if (key === undefined || !handled.has(key)) wrong.push(`${n}: ${String(data)}`)
            else pending.splice(pending.indexOf(key), 1)
            if (++acks === 5 && n < 20) socket.terminate()
          })
        }
      })
      const handled = new Set<string>()
      const times = new Map<string, number>()
      const socket = yield* Effect.provide(ReconnectingSocket.make<Event>({ ...base, url }), node)
      yield* Effect.forkScoped(
        quietly(
          socket.runForEach(
            ({ key }) =>
              Effect.map(Effect.sleep(key.length % 4), () => {
                handled.add(key)
                times.set(key, (times.get(key) ?? 0) + 1)
              }),
            { concurrency: 8 }
          )
        )
      )
      yield* until("all acked", () => lives.length === 20 && pending.length === 0)
      assert.deepStrictEqual(wrong, [])
      assert.strictEqual(handled.size, 20 * 20 + 20)
      assert.deepStrictEqual(
        [...times].filter(([, count]) => count > 1),
        []
      )
    })
  )

  it.scopedLive("S7 binary frames come as bytes, texts as text; broken JSON can be an item", () =>
    Effect.gen(function* () {
      const { url } = yield* serve({
        onConnection: (socket) => {
          socket.send(Buffer.from([0, 1, 255]))
          socket.send("größe 🎈")
          socket.send("{ broken")
          socket.send(Buffer.alloc(100_000, 7))
        }
      })
      const items = yield* ReconnectingSocket.received({
        url,
        decode: (frame) =>
          typeof frame === "string" ? Either.try(() => JSON.parse(frame) as unknown) : Either.right(frame)
      }).pipe(Stream.take(4), Stream.runCollect, Effect.provide(node))
      const [bytes, text, broken, large] = [...items].map(({ item }) => item)
      assert.deepStrictEqual(bytes, Either.right(new Uint8Array([0, 1, 255])))
      assert.isTrue(Either.isLeft(text!) && Either.isLeft(broken!))
      const kept = Either.getOrThrow(large!) as Uint8Array
      assert.strictEqual(kept.length, 100_000)
      // a few bytes do not keep a chunk of the network alive
      assert.isAtMost((Either.getOrThrow(bytes!) as Uint8Array).buffer.byteLength, 6)
    })
  )

  it.scopedLive("a frame of 50 MB is refused with 1009, and taken where that is allowed", () =>
    Effect.gen(function* () {
      let told: number | undefined
      const text = JSON.stringify({ id: 1, key: "x".repeat(50 * 1024 * 1024) })
      const { url } = yield* serve({
        onConnection: (socket) => {
          socket.on("close", (code) => (told = code))
          socket.send(text)
        }
      })
      const before = process.memoryUsage().arrayBuffers
      const error = yield* ending({ url })
      assert.deepInclude(error, { reason: "Closed", code: 1009 })
      assert.include(error.message, "raise `maxFrameBytes`")
      yield* until("the peer is told", () => told === 1009)
      assert.isBelow(process.memoryUsage().arrayBuffers - before, 120 * 1024 * 1024)
      const { handled } = yield* follow({ url, maxFrameBytes: 64 * 1024 * 1024 })
      yield* until("the large one", () => handled.length === 1)
      assert.strictEqual(handled[0]!.length, 50 * 1024 * 1024)
    })
  )

  it.scopedLive("S3 holds a fast server back while its handler is slow, and loses nothing", () =>
    Effect.gen(function* () {
      const total = 30_000
      let sent = 0
      const acked = new Set<string>()
      const text = "x".repeat(1000)
      const { url } = yield* serve({
        onConnection: (socket) => {
          socket.on("message", (data) => acked.add(String(data)))
          const more = (): void => {
            for (let count = 0; count < 100 && sent < total; count++)
              socket.send(JSON.stringify({ id: ++sent, key: "", text }))
            if (sent < total) setTimeout(more, socket.bufferedAmount > 1024 * 1024 ? 5 : 0)
          }
          more()
        }
      })
      let handled = 0
      let mayGoOn = false
      const socket = yield* Effect.provide(
        ReconnectingSocket.make<Event>({ ...base, key: undefined, url, maxInFlight: 100 }),
        node
      )
      yield* Effect.forkScoped(
        socket.runForEach(() =>
          Effect.gen(function* () {
            while (!mayGoOn) yield* Effect.sleep("5 millis")
            handled++
          })
        )
      )
      yield* Effect.sleep("1 second")
      const { phase, received } = yield* socket.status.get
      assert.isTrue(phase._tag === "Open" && phase.isPaused)
      // the rest of what one read of the network has brought
      assert.isBelow(received, 100 + 70)
      yield* Effect.sleep("500 millis")
      assert.strictEqual((yield* socket.status.get).received, received)
      mayGoOn = true
      yield* until("all acked", () => acked.size === total)
      assert.strictEqual(handled, total)
      assert.strictEqual((yield* socket.status.get).connections, 1)
    })
  )

  it.scopedLive("S3 a server that stops reading is noticed, though it goes on sending", () =>
    Effect.gen(function* () {
      let first = 0
      let acks = 0
      const { url } = yield* serve({
        onConnection: (socket, n, request) => {
          if (n > 1) {
            socket.on("message", () => acks++)
            socket.send(frame(1))
            return
          }
          request.socket.pause()
          const more = (): void => {
            if (socket.readyState !== WsSocket.OPEN) return
            for (let count = 0; count < 200; count++) socket.send(frame(++first))
            setTimeout(more, socket.bufferedAmount > 1024 * 1024 ? 20 : 0)
          }
          more()
        }
      })
      const { socket } = yield* follow({
        url,
        key: undefined,
        // large acks, so that the buffers of the system are full soon
        ack: ({ id }) => String(id).padEnd(20_000),
        maxUnsentBytes: 100_000,
        idleTimeout: "500 millis",
        pingInterval: "100 millis"
      })
      yield* until("an ack on a second connection", () => acks === 1)
      assert.strictEqual((yield* socket.status.get).connections, 2)
    })
  )

  it.scopedLive("S3 speaks TLS with a CA of one's own, and mutual TLS; not with a stranger", () =>
    Effect.gen(function* () {
      const tls = { cert: serverCert, key: serverKey, ca, requestCert: true }
      const { url } = yield* serve({ tls, onConnection: (socket) => socket.send(frame(1)) })
      const own = yield* follow({ url }, NodeConnector.layer({ ca, cert: clientCert, key: clientKey }))
      const named = yield* follow(
        { url },
        NodeConnector.layer({ ca: [ca], servername: "localhost", cert: Buffer.from(clientCert), key: clientKey })
      )
      yield* until("handled", () => own.handled.length + named.handled.length === 2)
      for (const layer of [node, NodeConnector.layer({ ca: otherCa, cert: clientCert, key: clientKey })]) {
        const error = yield* ending({ url, maxReconnectAttempts: 0 }, layer)
        assert.strictEqual(error.reason, "Unreachable")
        assert.match(error.message, /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT/)
      }
    })
  )

  it.scopedLive("S3 sends headers and protocols, made for each attempt", () =>
    Effect.gen(function* () {
      const asked: Array<unknown> = []
      const { url } = yield* serve({
        onConnection: (socket, n, { headers, url }) => {
          asked.push([url, headers.authorization, headers["x-attempt"], headers["sec-websocket-protocol"]])
          if (n === 1) socket.close(1012)
        }
      })
      let attempt = 0
      yield* follow({
        url: url.replace("ws://", "ws://me:p%20w@") + "?since=1",
        headers: Effect.sync(() => ({ "X-Attempt": `${++attempt}` })) as never,
        protocols: ["v2"]
      })
      yield* until("two connections", () => asked.length === 2)
      const authorization = `Basic ${Buffer.from("me:p w").toString("base64")}`
      assert.deepStrictEqual(asked, [
        ["/events?since=1", authorization, "1", "v2"],
        ["/events?since=1", authorization, "2", "v2"]
      ])
      for (const wrong of [{ "bad name": "x" }, { "x-key": "secret\nsecond" }] as ReadonlyArray<
        Record<string, string>
      >) {
        const error = yield* ending({ url, headers: wrong, maxReconnectAttempts: 0 })
        assert.strictEqual(error.message, "feed: the address, a header or a protocol is not one of a WebSocket.")
      }
    })
  )

  it.scopedLive("a consumer that ends while reading is paused does not wait for what was not read", () =>
    Effect.gen(function* () {
      let goodbye: number | undefined
      const { url } = yield* serve({
        onConnection: (socket) => {
          socket.on("close", (code) => (goodbye = code))
          for (let id = 1; id <= 5000; id++) socket.send(frame(id))
        }
      })
      const { fiber, handled, socket } = yield* follow({ url, maxInFlight: 10 }, node, Effect.never)
      yield* until("paused", () => {
        const { phase } = Effect.runSync(socket.status.get)
        return phase._tag === "Open" && phase.isPaused
      })
      const start = Date.now()
      yield* Fiber.interrupt(fiber)
      assert.isBelow(Date.now() - start, 2000)
      yield* until("goodbye", () => goodbye === 1000)
      assert.deepStrictEqual(handled, [])
    })
  )
})

describe("ReconnectingSocket over a WebSocket that has nothing but the standard", () => {
  const standard = Connector.layerWebSocket.pipe(
    Layer.provide(
      Layer.succeed(
        Socket.WebSocketConstructor,
        (url, protocols) => new WsSocket(url, protocols) as unknown as globalThis.WebSocket
      )
    )
  )

  it.scopedLive("receives, acks, reconnects and says goodbye", () =>
    Effect.gen(function* () {
      const heard: Array<string> = []
      let goodbye: number | undefined
      const { url } = yield* serve({
        onConnection: (socket, n) => {
          hearing(heard)(socket)
          socket.send(frame(n))
          socket.send(Buffer.from(frame(n + 10)))
          if (n === 1) setTimeout(() => socket.terminate(), 50)
          socket.on("close", (code) => (goodbye = code))
        }
      })
      const options = {
        url,
        decode: (frame: Connector.Frame) => decode(typeof frame === "string" ? frame : Buffer.from(frame).toString())
      }
      const { fiber, handled } = yield* follow(options, standard)
      yield* until("acks", () => heard.length === 4)
      assert.deepStrictEqual(handled, ["event 1", "event 11", "event 2", "event 12"])
      yield* Fiber.interrupt(fiber)
      yield* until("goodbye", () => goodbye === 1000)
    })
  )

  it.scopedLive("S3 says what is lost: headers, pausing, statuses, the bound of a frame", () =>
    Effect.gen(function* () {
      const { url } = yield* serve({
        onConnection: (socket) => {
          for (let id = 1; id <= 50; id++) socket.send(frame(id))
        }
      })
      const headers = yield* ending({ url, headers: { "x-key": "secret" }, maxReconnectAttempts: 0 }, standard)
      assert.match(headers.message, /^feed: this WebSocket cannot send headers; .*NodeConnector\.layer/)
      const slow = yield* follow({ url, maxInFlight: 10, backoff: Schedule.spaced("1 hour") }, standard, Effect.never)
      yield* until("overflow", () => Effect.runSync(slow.socket.status.get).phase._tag === "Waiting")
      const { phase, received } = yield* slow.socket.status.get
      assert.deepInclude(phase._tag === "Waiting" ? phase.error : {}, { reason: "Overflow" })
      assert.strictEqual(received, 10)
      const large = yield* ending({ url, maxFrameBytes: 20 }, standard)
      assert.deepInclude(large, { reason: "Closed", code: 1009 })
      const refusing = yield* serve({
        onUpgrade: (_, stream) => {
          stream.end("HTTP/1.1 403 No\r\n\r\n")
          return true
        }
      })
      const refused = yield* ending({ url: refusing.url, maxReconnectAttempts: 0 }, standard)
      assert.deepInclude(refused, { reason: "Unreachable", message: "feed: no connection; it is not told why." })
    })
  )
})
