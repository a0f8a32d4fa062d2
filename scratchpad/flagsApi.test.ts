/**
 * A source of one's own, written by somebody who knew Effect and this library's README: feature flags behind an HTTP API with
 * a revision, whose server forgets old ones.
 *
 *   GET /flags            200 { revision, upserts: [all], deleted: [] }
 *   GET /flags?since=REV  200 { revision, upserts, deleted } | 304 nothing new | 410 REV is too old: ask without it
 *
 *   npx vitest run --config test/vitest.config.ts scratchpad/flagsApi.test.ts
 */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Data, Effect, Fiber, HashMap, Option, Ref, Schema, TestClock } from "effect"
import { Change, Checkpoints, Source, Watcher } from "effect-periscope"
import { ScriptedHttpClient, Simulator, SourceContract } from "effect-periscope/testing"

// ---------------------------------------------------------------- the source

const Flag = Schema.Struct({ id: Schema.NonEmptyString, on: Schema.Boolean, since: Schema.DateFromString })
type Flag = typeof Flag.Type
const sameFlag = Schema.equivalence(Flag)

const Delta = Schema.Struct({
  revision: Schema.Int,
  upserts: Schema.Array(Flag),
  deleted: Schema.Array(Schema.String)
})
const decodeDelta = Schema.decodeUnknown(Delta)

class FlagsUnavailable extends Data.TaggedError("FlagsUnavailable")<{ readonly reason: string }> {}
class FlagsForbidden extends Data.TaggedError("FlagsForbidden") {
  readonly isFatal = true as const
}
type FlagsError = FlagsUnavailable | FlagsForbidden

const State = Schema.Struct({
  revision: Schema.NullOr(Schema.Int),
  known: Schema.HashMap({ key: Schema.String, value: Flag })
})
type State = typeof State.Type

type Answer =
  | { readonly _tag: "Delta"; readonly delta: typeof Delta.Type }
  | { readonly _tag: "NotModified" }
  | { readonly _tag: "Expired" }

const ask = (url: string, since: number | null): Effect.Effect<Answer, FlagsError, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const client = HttpClient.withScope(yield* HttpClient.HttpClient)
    const response = yield* client.execute(HttpClientRequest.get(url, since === null ? {} : { urlParams: { since } }))
    if (response.status === 200) {
      return { _tag: "Delta" as const, delta: yield* Effect.flatMap(response.json, decodeDelta) }
    }
    if (response.status === 304) return { _tag: "NotModified" as const }
    if (response.status === 410 && since !== null) return { _tag: "Expired" as const }
    if (response.status === 401 || response.status === 403) return yield* new FlagsForbidden()
    return yield* new FlagsUnavailable({ reason: `status ${response.status}` })
  }).pipe(
    Effect.scoped,
    Effect.catchTags({
      RequestError: ({ reason }) => new FlagsUnavailable({ reason }),
      ResponseError: ({ reason }) => new FlagsUnavailable({ reason }),
      ParseError: () => new FlagsUnavailable({ reason: "the answer does not fit" })
    })
  )

/** What a delta changes, and what is known then. A full one also says by its silence what is gone. */
const apply = (state: State, { deleted, revision, upserts }: typeof Delta.Type, isFull: boolean) => {
  const changes: Array<Change.Change<Flag>> = []
  for (const flag of upserts) {
    const before = HashMap.get(state.known, flag.id)
    if (Option.isNone(before)) changes.push(Change.added(flag.id, flag))
    else if (!sameFlag(before.value, flag)) changes.push(Change.modified(flag.id, flag, before))
  }
  const there = new Set(upserts.map(({ id }) => id))
  const gone = isFull ? [...HashMap.keys(state.known)].filter((id) => !there.has(id)) : deleted
  for (const id of gone) {
    const before = HashMap.get(state.known, id)
    if (Option.isSome(before)) changes.push(Change.removed(id, before))
  }
  const known = changes.reduce(
    (all, change) =>
      change._tag === "Removed" ? HashMap.remove(all, change.key) : HashMap.set(all, change.key, change.value),
    state.known
  )
  return { state: { revision, known }, changes }
}

const flagsSource = (url: string): Source.Source<Flag, FlagsError, HttpClient.HttpClient> =>
  Source.make({
    name: "flags",
    state: State,
    item: Flag,
    initial: { revision: null, known: HashMap.empty<string, Flag>() },
    onTimeout: () => new FlagsUnavailable({ reason: "timeout" }),
    poll: (state) =>
      Effect.gen(function* () {
        const first = yield* ask(url, state.revision)
        const isFull = state.revision === null || first._tag === "Expired"
        const answer = first._tag === "Expired" ? yield* ask(url, null) : first
        return answer._tag === "Delta" ? apply(state, answer.delta, isFull) : { state, changes: [] }
      })
  })

// ---------------------------------------------------------------- the server, in memory

/** Keeps the last `history` changes, and answers 410 to who is further behind. */
class FlagsServer {
  readonly flags = new Map<string, Flag>()
  private revision = 0
  private log: ReadonlyArray<{ readonly revision: number; readonly id: string }> = []

  constructor(private readonly history: number) {}

  set(id: string, on: boolean): void {
    this.note(id)
    this.flags.set(id, { id, on, since: new Date(this.revision * 1000) })
  }

  delete(id: string): void {
    if (this.flags.delete(id)) this.note(id)
  }

  private note(id: string): void {
    this.log = [...this.log, { revision: ++this.revision, id }].slice(-this.history)
  }

  readonly answer = (call: ScriptedHttpClient.Call): ScriptedHttpClient.Answer => {
    const json = (ids: Iterable<string>) => {
      const all = [...new Set(ids)]
      const upserts = all.flatMap((id) => this.flags.get(id) ?? [])
      const deleted = all.filter((id) => !this.flags.has(id))
      return { json: Schema.encodeSync(Delta)({ revision: this.revision, upserts, deleted }) }
    }
    const text = call.query.get("since")
    if (text === null) return json(this.flags.keys())
    const since = Number(text)
    if (since === this.revision) return { status: 304 }
    if (since + 1 < (this.log[0]?.revision ?? 0)) return { status: 410 }
    return json(this.log.filter(({ revision }) => revision > since).map(({ id }) => id))
  }
}

const url = "https://flags.example.com/flags"

// ---------------------------------------------------------------- the tests

/** Watches while a script changes the server, and notes what was told, and when. */
const play = (server: FlagsServer, answer: (call: ScriptedHttpClient.Call) => ScriptedHttpClient.Reply) =>
  Effect.gen(function* () {
    const http = ScriptedHttpClient.make(answer)
    const told = yield* Ref.make<ReadonlyArray<string>>([])
    const fiber = yield* Watcher.runForEach(
      flagsSource(url),
      ({ _tag, key }) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Ref.update(told, (all) => [...all, `${now / 1000} ${_tag} ${key}`])
        ),
      { interval: "10 seconds", checkpoint: "flags" }
    ).pipe(Effect.provide([http.layer, Checkpoints.layerMemory]), Effect.fork)
    return { fiber, http, told: Ref.getAndSet(told, []) }
  })

describe("flags", () => {
  it.effect("are told at their poll, and after an outage that outlasts the server's memory", () =>
    Effect.gen(function* () {
      const server = new FlagsServer(2)
      const { fiber, http, told } = yield* play(server, (call) =>
        call.n === 3 ? { status: 503 } : server.answer(call)
      )
      server.set("dark", true)
      yield* TestClock.adjust("0 seconds")
      assert.deepStrictEqual(yield* told, ["0 Added dark"])
      server.set("dark", false)
      server.set("beta", true)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* told, ["10 Modified dark", "10 Added beta"])
      for (let n = 0; n < 5; n++) server.set("beta", n % 2 === 0)
      server.delete("dark")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* told, ["40 Modified beta", "40 Removed dark"])
      const asked = http.calls.map(({ at, query }) => `${at / 1000} ${query}`)
      assert.deepStrictEqual(asked.slice(0, 6), ["0 ", "10 since=1", "20 since=3", "40 since=3", "40 ", "50 since=9"])
      assert.deepStrictEqual(http.unexpected, [])
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("end with the typed error where they are forbidden", () =>
    Effect.gen(function* () {
      const { fiber } = yield* play(new FlagsServer(2), () => ({ status: 403 }))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "FlagsForbidden")
    })
  )

  const subject = (stage: Simulator.Stage) => {
    const server = new FlagsServer(4)
    const http = ScriptedHttpClient.make((call) => {
      if (stage.fault("503", 0.1)) return { status: 503 }
      if (stage.fault("reset", 0.05)) return "reset"
      if (stage.fault("hang", 0.02)) return "hang"
      const answer = server.answer(call)
      return stage.fault("torn body", 0.05) ? { ...answer, ending: "truncated" } : answer
    })
    return {
      source: Source.provideContext(flagsSource(url), Context.make(HttpClient.HttpClient, http.client)),
      change: (chance: Simulator.Chance) => {
        const id = `flag ${chance.below(9)}`
        if (server.flags.has(id) && chance.happens(0.3)) server.delete(id)
        else server.set(id, chance.happens(0.5))
      },
      current: () => server.flags
    }
  }

  SourceContract.suite({ describe, it }, { name: "flags", mode: "listing", subject })

  it.live(
    "lose nothing over hundreds of crashes",
    () =>
      Effect.gen(function* () {
        const report = yield* Simulator.check({ mode: "listing", subject, trials: 300 })
        assert.isAbove(report.crashes, 300)
      }),
    60_000
  )
})
