/**
 * One trial of a client of an event stream: a server that keeps what is not acked, a network and handlers that go wrong by a
 * seed; life after life, until the world rests and everything must have been handled and acked.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scheduler from "effect/Scheduler"
import { describe } from "../core/describe.js"
import type { Frame } from "../socket/Connector.js"
import { Connector } from "../socket/Connector.js"
import type { Chance } from "./chance.js"
import * as chances from "./chance.js"
import { Incarnation } from "./incarnation.js"
import * as ScriptedSocket from "./ScriptedSocket.js"
import type { Outcome } from "./trial.js"

/** An event as it is received: `id` is of the connection, `key` of the event, which is the `n`-th of its entity. */
export interface Event {
  readonly id: number
  readonly key: string
  readonly entity: string
  readonly n: number
}

/**
 * What a client is to do in one life.
 *
 * - `handle`: what is to run for each event, to its end before the event's ack; in the order of `n` within one entity.
 * - `decode`, `ack`: how frames are read and written.
 * - `isRetrying`: whether an event whose handler fails is to be tried again, else the client ends.
 * - `concurrency`, `maxInFlight`, `maxPerOrder`: drawn by lot.
 */
export interface Task {
  readonly url: string
  readonly handle: (event: Event) => Effect.Effect<void, string>
  readonly decode: (frame: Frame) => Event
  readonly ack: (event: Event) => string
  readonly isRetrying: boolean
  readonly concurrency: number
  readonly maxInFlight: number
  readonly maxPerOrder: number | undefined
}

export interface TrialOptions {
  readonly follow: (task: Task) => Effect.Effect<unknown, unknown, Connector>
  readonly seed: number
  readonly trial: number
  /** The most crashes. */
  readonly crashes: number
  readonly events: number
  /** How probable each fault is at each opportunity. */
  readonly faults: number
  readonly isTraced: boolean
}

const entities = ["a", "b", "c", "d"]
const maxTrace = 2_000
const step = 2_000
/** Behind the longest wait for a reconnect, and the time in which silence is noticed. */
const restMillis = 60_000
const maxRests = 40

/** What a connection of the server's has sent. */
interface Session {
  readonly connection: ScriptedSocket.ScriptedConnection
  readonly ids: Map<number, Sent>
  nextId: number
}

interface Sent {
  readonly key: string
  readonly entity: string
  readonly n: number
}

export class SocketTrial {
  readonly trace: Array<string> = []
  private readonly fired = new Map<string, number>()
  private readonly chance: Chance
  private readonly server: ScriptedSocket.ScriptedSocket
  private readonly crashRate: number
  private readonly settings: Pick<Task, "concurrency" | "isRetrying" | "maxInFlight" | "maxPerOrder">
  private life: Incarnation | undefined
  private session: Session | undefined
  /** What the server keeps, in order. */
  private readonly pending = new Map<string, Sent>()
  private readonly counts = new Map<string, number>()
  private readonly handled = new Set<string>()
  private handledInLife = new Set<string>()
  private running = new Map<string, string>()
  private eventsLeft: number
  private broken: string | undefined
  private isCalm = false
  private isOver = false
  private isDone = false
  private now = 0
  private lives = 0
  private points = 0
  private crashes = 0
  private delivered = 0
  private repeated = 0
  private resumeDriver: (() => void) | undefined

  constructor(private readonly options: TrialOptions) {
    const chance = (this.chance = chances.make(options.seed, options.trial))
    this.eventsLeft = options.events
    this.crashRate = chance.next() * 0.05
    this.settings = {
      isRetrying: chance.happens(0.5),
      concurrency: chance.pick([1, 1, 2, 4]),
      maxInFlight: 1 + chance.below(20),
      maxPerOrder: chance.happens(0.3) ? chance.below(3) : undefined
    }
    this.note(() => JSON.stringify(this.settings))
    this.server = ScriptedSocket.make({
      replies: () => this.reply(),
      onOpen: (connection) => this.opened(connection),
      onFrame: (frame, connection) => this.acked(frame, connection)
    })
  }

  // ---------------------------------------------------------------- what goes wrong

  private readonly note = (line: () => string): void => {
    if (!this.options.isTraced || this.trace.length >= maxTrace) return
    this.trace.push(`${String(this.now / 1000).padStart(8)} ${line()}`)
  }

  private fault(kind: string, probability: number): boolean {
    if (this.isCalm || this.isOver || !this.chance.happens(probability)) return false
    this.fired.set(kind, (this.fired.get(kind) ?? 0) + 1)
    this.note(() => `  fault: ${kind}`)
    return true
  }

  private violate(rule: string): void {
    if (this.isOver || this.broken !== undefined) return
    this.note(() => `BROKEN: ${rule}`)
    this.broken = rule
    this.resumeDriver?.()
  }

  /** A place where the process may die: true, it has. */
  private dies(label: string): boolean {
    const { chance, life, options } = this
    if (life === undefined || this.isOver || !life.isAlive) return true
    this.points++
    if (this.isCalm || this.crashes >= options.crashes || !chance.happens(this.crashRate)) return false
    this.crashes++
    const kind = `crash: ${label}`
    this.fired.set(kind, (this.fired.get(kind) ?? 0) + 1)
    this.note(() => `CRASH at ${label}`)
    this.session?.connection.silence()
    this.session = undefined
    life.crash()
    return true
  }

  private readonly point = (label: string): Effect.Effect<void> =>
    Effect.suspend(() => (this.dies(label) ? (this.life?.never ?? Effect.interrupt) : Effect.void))

  private reply(): ScriptedSocket.Reply {
    const { faults } = this.options
    if (this.fault("unreachable", faults)) return "unreachable"
    if (this.fault("refused", faults)) return { refuse: this.chance.pick([429, 500, 503]), retryAfter: "7 seconds" }
    if (this.fault("hang", faults)) return "hang"
    return this.fault("slow", faults) ? { answer: "open", delay: this.chance.below(9_000) } : "open"
  }

  // ---------------------------------------------------------------- the server

  /** Everything that is not acked is sent on a new connection, in order, under ids that are counted anew. */
  private opened(connection: ScriptedSocket.ScriptedConnection): void {
    if (this.isOver) return
    const session: Session = { connection, ids: new Map(), nextId: 1 }
    this.session = session
    this.note(() => `connection ${connection.n}: ${this.pending.size} pending`)
    if (this.dies("opened")) return
    for (const sent of [...this.pending.values()]) this.send(session, sent)
    if (this.fault("closed at once", this.options.faults)) connection.close(1011)
  }

  private send(session: Session, sent: Sent, id = session.nextId++): void {
    session.ids.set(id, sent)
    session.connection.send(JSON.stringify({ ...sent, id }))
  }

  /** Sends once more what was not acked in time, in order and under the same ids. */
  private sendAgain(session: Session): void {
    for (const [id, sent] of [...session.ids]) {
      if (this.pending.has(sent.key)) session.connection.send(JSON.stringify({ ...sent, id }))
    }
  }

  private acked(frame: Frame, connection: ScriptedSocket.ScriptedConnection): void {
    const { session } = this
    if (this.isOver || session?.connection !== connection) return
    const sent = session.ids.get(Number(frame))
    this.note(() => `  ack ${String(frame)}${sent === undefined ? "" : ` of ${sent.key}`}`)
    if (sent === undefined) return this.violate(`an ack of ${String(frame)}, an id that this connection has not had`)
    if (!this.handled.has(sent.key)) return this.violate(`${sent.key} was acked, and was not handled`)
    this.pending.delete(sent.key)
    if (this.isCalm && this.pending.size === 0) this.done()
    this.dies("acked")
  }

  private produce(): void {
    for (let count = 1 + this.chance.below(4); count > 0 && this.eventsLeft > 0; count--) {
      this.eventsLeft--
      const entity = this.chance.pick(entities)
      const n = (this.counts.get(entity) ?? 0) + 1
      this.counts.set(entity, n)
      const sent: Sent = { key: `${entity}${n}`, entity, n }
      this.pending.set(sent.key, sent)
      if (this.session !== undefined) this.send(this.session, sent)
    }
  }

  private disturb(): void {
    const { chance, session } = this
    const { faults } = this.options
    if (session === undefined || !session.connection.isOpen) return
    const { connection } = session
    if (this.fault("reset", faults)) connection.reset()
    else if (this.fault("closed", faults)) connection.close(chance.pick([1000, 1001, 1006, 1011, 1012, 1013, 4000]))
    else if (this.fault("half-open", faults)) connection.silence()
    else if (this.fault("reads nothing", faults)) connection.stopReading()
    else connection.readOn()
    if (connection.isOpen && this.fault("sent again", 2 * faults)) this.sendAgain(session)
  }

  private readonly around: Effect.Effect<void> = Effect.gen(this, function* () {
    const { chance } = this
    while (this.eventsLeft > 0) {
      yield* Effect.sleep(1 + chance.below(step))
      this.now = yield* Clock.currentTimeMillis
      this.produce()
      this.disturb()
      if (chance.happens(0.1)) yield* Effect.sleep(chance.below(restMillis))
    }
    this.isCalm = true
    this.note(() => "the world rests")
    this.session?.connection.readOn()
    if (this.pending.size === 0) this.done()
    for (let rest = 0; rest < maxRests && !this.isDone; rest++) {
      yield* Effect.sleep(restMillis)
      this.now = yield* Clock.currentTimeMillis
      if (this.session?.connection.isOpen === true) this.sendAgain(this.session)
    }
    if (!this.isDone) this.violate(`the world rests, and ${[...this.pending.keys()].join(", ")} are not acked`)
  })

  private done(): void {
    this.isDone = true
    this.resumeDriver?.()
  }

  // ---------------------------------------------------------------- the client

  /** What the client runs for each event, under the eyes of the judge. */
  private readonly handle = (event: Event): Effect.Effect<void, string> =>
    Effect.gen(this, function* () {
      yield* this.point("handler")
      this.now = yield* Clock.currentTimeMillis
      this.started(event)
      if (this.chance.happens(0.4)) yield* Effect.sleep(this.chance.below(3 * step))
      yield* this.point("in handler")
      if (this.fault("handler fails", this.options.faults)) {
        if (!this.settings.isRetrying && this.life !== undefined) this.life.mayEnd = "handler fails"
        return yield* Effect.fail("the handler fails on purpose")
      }
      this.ended(event)
      yield* this.point("handled")
    }).pipe(Effect.ensuring(Effect.sync(() => this.left(event))))

  private started(event: Event): void {
    this.delivered++
    this.note(() => `  ${event.key} is handled`)
    const other = this.running.get(event.entity)
    if (other !== undefined) this.violate(`${event.key} is handled while ${other} is`)
    this.running.set(event.entity, event.key)
    if (this.handledInLife.has(event.key)) this.violate(`${event.key} is handled twice in one life`)
    if (this.handled.has(event.key)) this.repeated++
    for (let n = 1; n < event.n; n++) {
      if (!this.handled.has(`${event.entity}${n}`)) {
        return this.violate(`${event.key} is handled before ${event.entity}${n}`)
      }
    }
  }

  private ended(event: Event): void {
    this.handled.add(event.key)
    this.handledInLife.add(event.key)
  }

  private left(event: Event): void {
    if (this.life?.isAlive === true && this.running.get(event.entity) === event.key) this.running.delete(event.entity)
  }

  private lifeOf(): Effect.Effect<unknown, unknown> {
    const task: Task = {
      url: "ws://simulated",
      handle: this.handle,
      decode: (frame) => JSON.parse(String(frame)) as Event,
      ack: ({ id }) => String(id),
      ...this.settings
    }
    return this.options
      .follow(task)
      .pipe(
        Effect.provideService(Connector, this.server.connector),
        Effect.withRandom(Random.make(this.options.seed + this.options.trial))
      )
  }

  // ---------------------------------------------------------------- life after life

  private over(
    life: Incarnation,
    fiber: Fiber.RuntimeFiber<unknown, unknown>
  ): Effect.Effect<Exit.Exit<unknown, unknown> | undefined> {
    return Effect.async<Exit.Exit<unknown, unknown> | undefined>((resume) => {
      const end = (exit: Exit.Exit<unknown, unknown> | undefined): void => resume(Effect.succeed(exit))
      this.resumeDriver = () => end(undefined)
      fiber.addObserver(end)
      if (!life.isAlive || this.isDone || this.broken !== undefined) end(undefined)
    })
  }

  readonly run: Effect.Effect<Outcome> = Effect.gen(this, function* () {
    const scheduler = yield* Effect.withFiberRuntime<Scheduler.Scheduler>((fiber) =>
      Effect.succeed(fiber.currentScheduler)
    )
    const buried: Array<Incarnation> = []
    const world = yield* Effect.fork(this.around)
    while (true) {
      const life = new Incarnation(++this.lives, scheduler, () => this.resumeDriver?.())
      this.life = life
      this.handledInLife = new Set()
      this.running = new Map()
      this.note(() => `life ${life.number}`)
      buried.push(life)
      const fiber = yield* life.start(this.lifeOf())
      const exit = yield* this.over(life, fiber)
      this.now = yield* Clock.currentTimeMillis
      if (exit !== undefined && life.isAlive && life.mayEnd === undefined) {
        this.violate(`the client ended by itself: ${Exit.isFailure(exit) ? describe(exit.cause) : "it completed"}`)
      }
      if (this.broken !== undefined || this.isDone) break
      life.isAlive = false
      this.session?.connection.silence()
      this.session = undefined
      yield* Effect.sleep(this.chance.below(step))
    }
    yield* Fiber.interrupt(world)
    const outcome = {
      violation: this.broken,
      trace: this.trace.slice(),
      points: this.points,
      crashes: this.crashes,
      polls: this.server.attempts.length,
      delivered: this.delivered,
      redelivered: this.repeated,
      fired: new Map(this.fired)
    }
    this.isOver = true
    yield* Effect.forEach(buried, (life) => life.bury(), { discard: true })
    return outcome
  })
}
