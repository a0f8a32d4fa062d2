/**
 * A Tap server on a port of loopback, for tests of what follows one: real sockets, the rules of the real server, events by hand.
 *
 * It delivers at least once and in order within each DID: a live event alone, what is not acknowledged again after a timeout, to
 * any connection that takes it. Numbers of events end with the database: after a restart they may begin at 1 again.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { createHash, timingSafeEqual } from "node:crypto"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import type { Duplex } from "node:stream"
import type { WebSocket } from "ws"
import { positive } from "../core/durationOption.js"
import type { IdentityData, RecordData } from "../socket/Tap.js"
import { Outbox } from "./tapOutbox.js"
import type { Answer, Cursors, Repo } from "./tapRepos.js"
import { answer, Repos } from "./tapRepos.js"
import { acknowledged, Connection, makeServer } from "./tapSockets.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Cursors,
  /**
   * @category models
   * @since 0.1.0
   */
  Repo
} from "./tapRepos.js"

/**
 * How the server behaves; the defaults are those of the real one.
 *
 * - `port`: [one that is free].
 * - `password`: what `admin` must give [none is asked for].
 * - `acks`: whether events wait to be acknowledged; without, an event is done once it was written [true].
 * - `retryTimeout`: what was sent longer ago than that, and not acknowledged, is sent again at the next tick, which come as often
 *   [1 minute].
 * - `deleteInterval`, `deleteBatch`: when acknowledged events leave the database [10 seconds, or 1000 of them].
 * - `collections`: only records of these collections are delivered; `*` at the end stands for anything [all].
 * - `history`: so many deliveries and acknowledgements are remembered, the oldest are forgotten first [10,000].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly port?: number | undefined
  readonly password?: string | undefined
  readonly acks?: boolean | undefined
  readonly retryTimeout?: Duration.DurationInput | undefined
  readonly deleteInterval?: Duration.DurationInput | undefined
  readonly deleteBatch?: number | undefined
  readonly collections?: ReadonlyArray<string> | undefined
  readonly history?: number | undefined
}

/**
 * A record event; what is left out is made up: a creation, live, in the collection `app.bsky.feed.post`, of a key, revision and
 * CID of its own. What else is given is sent too.
 *
 * @category models
 * @since 0.1.0
 */
export type NewRecord = Pick<RecordData, "did"> & Partial<RecordData> & { readonly [field: string]: unknown }

/**
 * An identity event; what is left out is made up: an active account.
 *
 * @category models
 * @since 0.1.0
 */
export type NewIdentity = Pick<IdentityData, "did"> & Partial<IdentityData> & { readonly [field: string]: unknown }

/**
 * What passed over a connection: `connection` counts from 1, `id` is the number of the event.
 *
 * @category models
 * @since 0.1.0
 */
export interface Passed {
  readonly connection: number
  readonly id: number
}

/**
 * The server, and the hand on it.
 *
 * @category models
 * @since 0.1.0
 */
export interface TapServer {
  /** Such as `http://127.0.0.1:2480`; the channel is at `/channel`. */
  readonly url: string
  /** Puts a record event into the outbox. Gives its number; none if its collection is not delivered. */
  readonly record: (event: NewRecord) => number | undefined
  readonly identity: (event: NewIdentity) => number
  /** Puts an event into the outbox whose frame is what the function says, such as one that nobody can read. */
  readonly frame: (event: {
    readonly did: string
    readonly live?: boolean
    readonly text: (id: number) => string
  }) => number
  /** Writes a text to every connection at once, beside the outbox. */
  readonly send: (text: string) => void
  /** The repositories that are followed; an event of another DID adds it. */
  readonly repos: ReadonlyMap<string, Repo>
  readonly setRepo: (did: string, changes: Partial<Omit<Repo, "did">>) => void
  /** Sets what `/resolve` answers for a DID. */
  readonly setDocument: (did: string, document: { readonly [field: string]: unknown }) => void
  readonly setCursors: (cursors: Cursors) => void
  /** How many connections are open now. */
  readonly connections: () => number
  /** How many events are not acknowledged. */
  readonly unacked: () => number
  /** What was written, and what came back, oldest first, repetitions too. */
  readonly deliveries: ReadonlyArray<Passed>
  readonly acks: ReadonlyArray<Passed>
  /** Acknowledgements of numbers that were never sent over the connection on which they came: meant for another event. */
  readonly strayAcks: ReadonlyArray<Passed>
  /** The headers of the upgrades that were let in, oldest first. */
  readonly upgrades: ReadonlyArray<Readonly<Record<string, string>>>
  /** Closes all connections with a code; without one as a process that dies. */
  readonly disconnect: (code?: number) => void
  /** Answers the next attempts to open the channel with this status [one]. */
  readonly refuse: (status: number, times?: number) => void
  /** Reads no more from any connection, so that pings stay unanswered, until `thaw`. */
  readonly freeze: () => void
  readonly thaw: () => void
  /**
   * Ends the server at once and starts it again after a time [none]. What is in its database comes again, also what was acknowledged
   * but not yet deleted. Numbers go on; with `"fromOne"` the database was lost, and what is not acknowledged comes under new ones.
   */
  readonly restart: (options?: {
    readonly ids?: "kept" | "fromOne" | undefined
    readonly downFor?: Duration.DurationInput | undefined
  }) => Effect.Effect<void>
  /** Waits until something holds; it is looked at after each event, acknowledgement and connection, and at `look`. */
  readonly until: (holds: () => boolean) => Effect.Effect<void>
  readonly look: () => void
  /** Waits until every event is acknowledged. */
  readonly drained: Effect.Effect<void>
}

/** Remembers the last ones. */
class History<A> {
  readonly items: Array<A> = []

  constructor(private readonly max: number) {}

  push(item: A): void {
    this.items.push(item)
    if (this.items.length >= this.max * 2) this.items.splice(0, this.items.length - this.max)
  }
}

const sortable = "234567abcdefghijklmnopqrstuvwxyz"

/** The n-th revision: a timestamp identifier, as the network writes them. */
const revision = (n: number): string => {
  let rest = (BigInt(1_700_000_000_000_000 + n) << 10n) | 1n
  let text = ""
  for (let digit = 0; digit < 13; digit++, rest >>= 5n) text = sortable[Number(rest & 31n)]! + text
  return text
}

/** A content identifier: that of the JSON, where the network takes that of its CBOR. */
const contentId = (record: unknown): string => {
  const bytes = [0x01, 0x71, 0x12, 0x20, ...createHash("sha256").update(JSON.stringify(record)).digest()]
  let text = "b"
  let rest = 0
  let bits = 0
  for (const byte of bytes) {
    rest = (rest << 8) | byte
    for (bits += 8; bits >= 5; bits -= 5) text += base32[(rest >> (bits - 5)) & 31]!
    rest &= (1 << bits) - 1
  }
  return bits === 0 ? text : text + base32[(rest << (5 - bits)) & 31]!
}

const base32 = "abcdefghijklmnopqrstuvwxyz234567"

const recordData = ({ action = "create", did, ...given }: NewRecord, n: number): RecordData => {
  const {
    cid,
    collection = "app.bsky.feed.post",
    live = true,
    record,
    rev = revision(n),
    rkey = rev,
    ...others
  } = given
  const fields = { live, did, rev, collection, rkey, action, ...others }
  if (action === "delete") return fields
  const content = record ?? ("record" in given ? undefined : { $type: collection, text: `record ${n}` })
  return { ...fields, record: content, cid: cid ?? contentId(content ?? {}) }
}

class Tap {
  readonly repos = new Repos()
  readonly outbox: Outbox
  readonly deliveries: History<Passed>
  readonly acks: History<Passed>
  readonly strayAcks: History<Passed>
  readonly upgrades: History<Readonly<Record<string, string>>>
  readonly waiting = new Set<{ readonly holds: () => boolean; readonly resume: () => void }>()
  readonly refusals: Array<number> = []
  private connections: Array<Connection> = []
  private connected = 0
  private made = 0
  private turn = 0
  private readonly sockets = makeServer()

  constructor(
    private readonly options: Options,
    retryTimeoutMillis: number,
    now: () => number
  ) {
    const { deleteBatch = 1000, history = 10_000 } = options
    this.outbox = new Outbox({ retryTimeoutMillis, deleteBatch, outgoing: 10_000 }, now)
    this.deliveries = new History(history)
    this.acks = new History(history)
    this.strayAcks = new History(history)
    this.upgrades = new History(history)
  }

  get open(): ReadonlyArray<Connection> {
    return this.connections
  }

  addRecord(event: NewRecord): number | undefined {
    const data = recordData(event, ++this.made)
    const { collections = ["*"] } = this.options
    const { action, collection, did, live, rev, rkey } = data
    this.repos.set(did, { state: "active", rev })
    this.repos.note(did, `${collection}/${rkey}`, action !== "delete")
    const isWanted = collections.some((filter) =>
      filter.endsWith("*") ? collection.startsWith(filter.slice(0, -1)) : filter === collection
    )
    return isWanted ? this.add(did, live, "record", data) : undefined
  }

  addIdentity({ did, handle = "user.example", is_active = true, status = "active", ...others }: NewIdentity): number {
    this.repos.set(did, { handle })
    // a server sends them at any time, like those of a backfill
    return this.add(did, false, "identity", { did, handle, is_active, status, ...others })
  }

  private add(did: string, live: boolean, type: string, data: unknown): number {
    const rest = `,"type":"${type}","${type}":${JSON.stringify(data)}}`
    return this.addFrame({ did, live, frame: (id) => `{"id":${id}${rest}` })
  }

  addFrame(event: { readonly did: string; readonly live: boolean; readonly frame: (id: number) => string }): number {
    const id = this.outbox.add(event)
    this.pump()
    return id
  }

  /** Writes what may be written, in turns to each connection that takes something. */
  pump(): void {
    for (let skipped = 0; skipped < this.connections.length;) {
      const connection = this.connections[this.turn % this.connections.length]!
      const row = connection.isReady ? this.outbox.take() : undefined
      if (row === undefined && connection.isReady) break
      this.turn++
      if (row === undefined) {
        skipped++
        continue
      }
      skipped = 0
      connection.sent.add(row.id)
      this.deliveries.push({ connection: connection.n, id: row.id })
      connection.send(row.frame(row.id))
      if (this.options.acks === false) this.outbox.ack(row.id)
    }
    this.look()
  }

  private receive(connection: Connection, message: string): void {
    if (connection.isDead) return
    const ack = acknowledged(message)
    if (ack === "broken") return connection.close(undefined)
    if (Option.isNone(ack) || this.options.acks === false) return
    const passed: Passed = { connection: connection.n, id: ack.value }
    this.acks.push(passed)
    if (!connection.sent.has(ack.value)) this.strayAcks.push(passed)
    this.outbox.ack(ack.value)
    this.pump()
  }

  look(): void {
    for (const waiter of this.waiting) {
      if (waiter.holds()) {
        this.waiting.delete(waiter)
        waiter.resume()
      }
    }
  }

  disconnect(code: number | undefined): void {
    this.connections.slice().forEach((connection) => connection.close(code))
  }

  private mayEnter({ headers }: IncomingMessage): boolean {
    const { password } = this.options
    if (password === undefined) return true
    const digest = (text: string): Buffer => createHash("sha256").update(text).digest()
    const wanted = `Basic ${Buffer.from(`admin:${password}`).toString("base64")}`
    return timingSafeEqual(digest(headers.authorization ?? ""), digest(wanted))
  }

  readonly request = (request: IncomingMessage, response: ServerResponse): void => {
    const parts: Array<Buffer> = []
    request.on("data", (part: Buffer) => void parts.push(part))
    request.on("end", () => {
      const { status, json } = this.answer(request, Buffer.concat(parts).toString("utf8"))
      const headers = status === 401 ? { "www-authenticate": challenge } : {}
      if (json === undefined) return void response.writeHead(status, headers).end()
      response.writeHead(status, { ...headers, "content-type": "application/json" }).end(`${JSON.stringify(json)}\n`)
    })
  }

  private answer(request: IncomingMessage, body: string): Answer {
    if (!this.mayEnter(request)) return unauthorized
    const { headers, method = "GET", url = "/" } = request
    const path = url.replace(/\?.*$/s, "")
    return answer({ method, path, contentType: headers["content-type"] ?? "", body }, this.repos, this.outbox.size)
  }

  readonly upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on("error", () => {})
    const refused = !this.mayEnter(request) ? 401 : this.refusals.shift()
    const isChannel = (request.url ?? "").replace(/\?.*$/s, "") === "/channel"
    if (refused !== undefined || !isChannel) {
      return void socket.end(`HTTP/1.1 ${refused ?? 404} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    }
    this.sockets.handleUpgrade(request, socket, head, (webSocket) => this.accept(request, socket, webSocket))
  }

  private accept({ headers }: IncomingMessage, transport: Duplex, socket: WebSocket): void {
    const connection = new Connection(++this.connected, socket, transport, () => this.pump())
    this.upgrades.push(Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])))
    this.connections.push(connection)
    socket.on("error", () => {})
    socket.on("message", (data) => this.receive(connection, String(data)))
    socket.on("close", () => {
      this.connections = this.connections.filter((open) => open !== connection)
      this.look()
    })
    this.pump()
  }
}

const challenge = 'Basic realm="admin", charset="UTF-8"'

const unauthorized: Answer = {
  status: 401,
  json: { error: "Unauthorized", message: "atproto admin auth required, but missing or incorrect password" }
}

const listen = (tap: Tap, port: number): Effect.Effect<Server> =>
  Effect.async((resume) => {
    const server = createServer(tap.request)
    server.on("upgrade", tap.upgrade)
    server.once("error", (error) => resume(Effect.die(error)))
    server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
  })

const close = (tap: Tap, server: Server): Effect.Effect<void> =>
  Effect.async((resume) => {
    server.close(() => resume(Effect.void))
    tap.disconnect(undefined)
    server.closeAllConnections()
  })

/**
 * Starts a server, which ends with the scope.
 *
 * **Details** Timeouts go by the `Clock`, so that a `TestClock` rules them; the sockets are real and do not wait for it.
 *
 * **Gotchas** As with the real server an event that was sent to a connection which then breaks comes again only after
 * `retryTimeout`, counted from the first sending, or up to twice that; make it short in a test. It has no webhooks and follows no
 * network. Needs the optional peer `ws`, which `@effect/platform-node`
 * brings along.
 *
 * **Errors** A timeout that is not a finite duration above zero dies, naming the option.
 *
 * **Source** `cmd/tap` in github.com/bluesky-social/indigo
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import * as TapServer from "effect-periscope/testing/TapServer"
 *
 * const program = Effect.gen(function* () {
 *   const server = yield* TapServer.make({ password: "secret" })
 *   server.identity({ did: "did:plc:alice", handle: "alice.example" })
 *   const response = yield* Effect.promise(() => fetch(`${server.url}/info/did:plc:alice`))
 *   return [response.status, server.unacked()]
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => [401, 1]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<TapServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const millis = (name: "deleteInterval" | "retryTimeout", fallback: Duration.DurationInput): number =>
      Duration.toMillis(positive("TapServer", name, options[name] ?? fallback))
    const retryTimeout = millis("retryTimeout", "1 minute")
    const deleteInterval = millis("deleteInterval", "10 seconds")
    const clock = yield* Clock.clockWith(Effect.succeed)
    const tap = new Tap(options, retryTimeout, () => clock.unsafeCurrentTimeMillis())
    let server: Server = yield* Effect.acquireRelease(listen(tap, options.port ?? 0), () =>
      Effect.suspend(() => close(tap, server))
    )
    const { port } = server.address() as AddressInfo
    const every = (wait: Duration.DurationInput, act: () => void) =>
      Effect.forkScoped(Effect.forever(Effect.zipRight(Effect.sleep(wait), Effect.sync(act))))
    yield* every(retryTimeout, () => {
      tap.outbox.retry()
      tap.pump()
    })
    yield* every(deleteInterval, () => tap.outbox.deleteAcked())

    const until = (holds: () => boolean): Effect.Effect<void> =>
      Effect.async((resume) => {
        const waiter = { holds, resume: () => resume(Effect.void) }
        tap.waiting.add(waiter)
        tap.look()
        return Effect.sync(() => tap.waiting.delete(waiter))
      })

    const restart: TapServer["restart"] = ({ downFor = 0, ids = "kept" } = {}) =>
      Effect.gen(function* () {
        yield* close(tap, server)
        tap.outbox.restart(ids)
        yield* Effect.sleep(downFor)
        server = yield* listen(tap, port)
      }).pipe(Effect.uninterruptible)

    return {
      url: `http://127.0.0.1:${port}`,
      record: (event) => tap.addRecord(event),
      identity: (event) => tap.addIdentity(event),
      frame: ({ did, live = true, text }) => tap.addFrame({ did, live, frame: text }),
      send: (text) => tap.open.forEach((connection) => connection.send(text)),
      repos: tap.repos.all,
      setRepo: (did, changes) => tap.repos.set(did, changes),
      setDocument: (did, document) => void tap.repos.documents.set(did, document),
      setCursors: (cursors) => void (tap.repos.cursors = cursors),
      connections: () => tap.open.length,
      unacked: () => tap.outbox.unacked,
      deliveries: tap.deliveries.items,
      acks: tap.acks.items,
      strayAcks: tap.strayAcks.items,
      upgrades: tap.upgrades.items,
      disconnect: (code) => tap.disconnect(code),
      refuse: (status, times = 1) => {
        for (let n = 0; n < times; n++) tap.refusals.push(status)
      },
      freeze: () => tap.open.forEach((connection) => connection.pause()),
      thaw: () => tap.open.forEach((connection) => connection.resume()),
      restart,
      until,
      look: () => tap.look(),
      drained: until(() => tap.outbox.unacked === 0)
    }
  })
