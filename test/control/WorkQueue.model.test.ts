import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck, Option, Schedule, Stream } from "effect"
import { WorkQueue } from "effect-periscope/control"
import { VirtualClock } from "effect-periscope/testing"

const priorities: ReadonlyArray<WorkQueue.Priority> = ["live", "retry", "resync"]
const rank = (priority: WorkQueue.Priority): number => priorities.indexOf(priority)
const higher = (a: WorkQueue.Priority, b: WorkQueue.Priority): WorkQueue.Priority => (rank(a) < rank(b) ? a : b)

/** A key that is to be added later: by a retry, or because somebody asked for it, or both. */
interface Later {
  retryAt: number
  asked: { at: number; priority: WorkQueue.Priority } | undefined
  readonly order: number
}

const atOf = ({ asked, retryAt }: Later): number => Math.min(retryAt, asked?.at ?? Infinity)
const priorityOf = ({ asked, retryAt }: Later): WorkQueue.Priority =>
  asked === undefined ? "retry" : retryAt === Infinity ? asked.priority : higher("retry", asked.priority)

const first = 5
const rate = 10
const burst = 3
const maxAttempts = 3
const maxKeys = 4

/** The contract, written as plainly as it can be: everything is looked for in lists. */
class Model {
  now = 0
  isShut = false
  waiting: Array<{ readonly key: string; priority: WorkQueue.Priority; readonly seq: number }> = []
  readonly running = new Set<string>()
  readonly dirty = new Map<string, WorkQueue.Priority>()
  readonly later = new Map<string, Later>()
  readonly failures = new Map<string, number>()
  readonly dead: Array<string> = []
  private seq = 0
  private tokens = -Infinity

  isKnown(key: string): boolean {
    return this.running.has(key) || this.later.has(key) || this.waiting.some((one) => one.key === key)
  }

  get size(): number {
    return new Set([...this.running, ...this.later.keys(), ...this.waiting.map(({ key }) => key)]).size
  }

  add(key: string, priority: WorkQueue.Priority, isRetry = false): boolean {
    if (this.isShut || (!this.isKnown(key) && this.size >= maxKeys && !isRetry)) return false
    this.mark(key, priority)
    return true
  }

  private mark(key: string, priority: WorkQueue.Priority): void {
    const waits = this.waiting.find((one) => one.key === key)
    const before = waits?.priority ?? this.dirty.get(key)
    const wanted = before === undefined ? priority : higher(before, priority)
    if (this.running.has(key)) this.dirty.set(key, wanted)
    else if (wanted !== before) {
      this.waiting = this.waiting.filter((one) => one !== waits)
      this.waiting.push({ key, priority: wanted, seq: this.seq++ })
    }
  }

  addAfter(key: string, delay: number, priority: WorkQueue.Priority, isRetry: boolean): boolean {
    if (delay <= 0) return this.add(key, priority, isRetry)
    if (this.isShut) return false
    const known = this.later.get(key) ?? { retryAt: Infinity, asked: undefined, order: this.seq++ }
    this.later.set(key, known)
    const at = this.now + delay
    if (isRetry) known.retryAt = Math.min(known.retryAt, at)
    else {
      const { asked = { at, priority } } = known
      known.asked = { at: Math.min(asked.at, at), priority: higher(asked.priority, priority) }
    }
    return true
  }

  sleep(millis: number): void {
    this.now += millis
    const due = [...this.later].filter(([_, later]) => atOf(later) <= this.now)
    due.sort(([_, a], [__, b]) => atOf(a) - atOf(b) || a.order - b.order)
    for (const [key, later] of due) {
      this.later.delete(key)
      this.mark(key, priorityOf(later))
    }
  }

  take(): string | undefined {
    const [next] = [...this.waiting].sort((a, b) => rank(a.priority) - rank(b.priority) || a.seq - b.seq)
    if (next === undefined) return undefined
    this.waiting = this.waiting.filter((one) => one !== next)
    this.running.add(next.key)
    return next.key
  }

  done(key: string): void {
    if (!this.running.delete(key)) return
    const priority = this.dirty.get(key)
    if (priority !== undefined) this.waiting.push({ key, priority, seq: this.seq++ })
    this.dirty.delete(key)
  }

  retry(key: string): boolean {
    const failures = (this.failures.get(key) ?? 0) + 1
    this.failures.set(key, failures)
    // also after a shutdown, as long as not everything is done
    const isOver = this.isShut && this.running.size + this.waiting.length === 0
    if (failures >= maxAttempts && !isOver) this.dead.push(key)
    if (failures >= maxAttempts || this.isShut) {
      this.failures.delete(key)
      return false
    }
    // when the last token that was taken is there
    this.tokens = Math.max(this.tokens, this.now - (burst * 1000) / rate) + 1000 / rate
    return this.addAfter(key, Math.max(first * 2 ** (failures - 1), this.tokens - this.now), "retry", true)
  }

  forget(key: string): void {
    this.failures.delete(key)
    const known = this.later.get(key)
    if (known === undefined || known.retryAt === Infinity) return
    this.later.delete(key)
    if (known.asked !== undefined) this.later.set(key, { retryAt: Infinity, asked: known.asked, order: this.seq++ })
  }

  shutDown(): void {
    this.isShut = true
    const dropped = [...this.later.keys()]
    this.later.clear()
    // what will never be worked on again fails no more
    for (const key of dropped) if (!this.isKnown(key)) this.failures.delete(key)
  }

  shutDownNow(): number {
    this.shutDown()
    const dropped = this.waiting.length + this.dirty.size
    for (const { key } of this.waiting) this.failures.delete(key)
    this.waiting = []
    this.dirty.clear()
    return dropped
  }

  get status() {
    const count = (priority: WorkQueue.Priority) => this.waiting.filter((one) => one.priority === priority).length
    return {
      live: count("live"),
      retry: count("retry"),
      resync: count("resync"),
      running: this.running.size,
      delayed: this.later.size,
      failing: this.failures.size,
      isShutDown: this.isShut
    }
  }
}

const key = FastCheck.constantFrom("a", "b", "c", "d", "e", "f")
const priority = FastCheck.constantFrom(...priorities)
const delay = FastCheck.constantFrom(0, 1, 7, 20, 110, 350)

const command = FastCheck.oneof(
  { weight: 6, arbitrary: FastCheck.record({ do: FastCheck.constant("add" as const), key, priority }) },
  { weight: 3, arbitrary: FastCheck.record({ do: FastCheck.constant("addAfter" as const), key, priority, delay }) },
  { weight: 6, arbitrary: FastCheck.record({ do: FastCheck.constant("take" as const) }) },
  { weight: 4, arbitrary: FastCheck.record({ do: FastCheck.constant("done" as const), key }) },
  { weight: 4, arbitrary: FastCheck.record({ do: FastCheck.constant("retry" as const), key }) },
  { weight: 2, arbitrary: FastCheck.record({ do: FastCheck.constant("forget" as const), key }) },
  { weight: 4, arbitrary: FastCheck.record({ do: FastCheck.constant("sleep" as const), delay }) }
)
const end = FastCheck.constantFrom({ do: "shutDown" as const }, { do: "shutDownNow" as const })

const scenario = FastCheck.tuple(
  FastCheck.array(command, { maxLength: 60, size: "max" }),
  FastCheck.option(FastCheck.tuple(end, FastCheck.array(command, { maxLength: 20 })), { freq: 3 })
)
type Scenario = typeof scenario extends FastCheck.Arbitrary<infer A> ? A : never
const commandsOf = ([before, ending]: Scenario) => [...before, ...(ending === null ? [] : [ending[0], ...ending[1]])]
type Command = ReturnType<typeof commandsOf>[number]

/** Does the same to both, and gives what both say. */
const step = (queue: WorkQueue.WorkQueue<string>, model: Model, command: Command) => {
  switch (command.do) {
    case "add":
      return Effect.sync(() => [
        queue.unsafeAdd(command.key, command.priority),
        model.add(command.key, command.priority)
      ])
    case "addAfter":
      // would wait for room
      if (!model.isShut && !model.isKnown(command.key) && model.size >= maxKeys) return Effect.succeed([0, 0])
      return Effect.map(queue.addAfter(command.key, command.delay, { priority: command.priority }), (added) => [
        added,
        model.addAfter(command.key, command.delay, command.priority, false)
      ])
    case "take": {
      const expected = model.take()
      if (expected === undefined && !model.isShut) return Effect.succeed([0, 0])
      return Effect.map(Effect.option(queue.take), (taken) => [Option.getOrUndefined(taken), expected])
    }
    case "done":
      model.done(command.key)
      return Effect.as(queue.done(command.key), [0, 0])
    case "retry":
      return Effect.map(queue.retry(command.key), (retried) => [retried, model.retry(command.key)])
    case "forget":
      model.forget(command.key)
      return Effect.as(queue.forget(command.key), [0, 0])
    case "sleep":
      model.sleep(command.delay)
      return Effect.sleep(command.delay).pipe(Effect.zipRight(Effect.repeatN(Effect.yieldNow(), 5)), Effect.as([0, 0]))
    case "shutDown":
      model.shutDown()
      return Effect.as(queue.shutDown, [0, 0])
    case "shutDownNow":
      return Effect.map(queue.shutDownNow, (dropped) => [dropped, model.shutDownNow()])
  }
}

const play = (commands: ReadonlyArray<Command>) =>
  Effect.gen(function* () {
    const model = new Model()
    const queue = yield* WorkQueue.make<string>({
      name: "model",
      backoff: Schedule.exponential(first),
      bucket: { rate, burst },
      maxAttempts,
      maxKeys
    })
    for (const [index, command] of commands.entries()) {
      const [actual, expected] = yield* step(queue, model, command)
      assert.strictEqual(actual, expected, `${index}: ${JSON.stringify(command)}`)
      const { longestRunningMillis: _, ...status } = yield* queue.status
      assert.deepStrictEqual(status, model.status, `${index}: ${JSON.stringify(command)}`)
      assert.strictEqual(yield* queue.length, model.waiting.length)
    }
    yield* queue.shutDownNow
    for (const running of model.running) yield* queue.done(running)
    const letters = yield* Stream.runCollect(queue.deadLetters)
    assert.deepStrictEqual(
      Array.from(letters, (letter) => letter.key),
      model.dead
    )
    return { model }
  }).pipe(Effect.scoped, VirtualClock.run)

describe("WorkQueue and a model of its contract", () => {
  it("C9 agrees after every one of random adds, takes, dones, failures, waits and shutdowns", async () => {
    const seen = { dead: 0, delayed: 0, dirty: 0, full: 0, commands: 0 }
    await FastCheck.assert(
      FastCheck.asyncProperty(scenario, async (generated) => {
        const commands = commandsOf(generated)
        const { model } = await Effect.runPromise(play(commands))
        seen.commands += commands.length
        seen.dead += model.dead.length
        seen.delayed += model.later.size
        seen.dirty += model.dirty.size
        if (model.size >= maxKeys) seen.full++
      }),
      { numRuns: 800 }
    )
    // what is to be tested happened
    for (const [name, count] of Object.entries(seen)) assert.isAbove(count, 20, name)
  }, 60_000)
})
