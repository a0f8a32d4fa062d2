import * as HttpClient from "@effect/platform/HttpClient"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Context, Data, Duration, Effect, Option, Redacted, Schema } from "effect"
import { Change, Source } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import { ScriptedHttpClient, ScriptedSource, Simulator, SourceContract } from "effect-periscope/testing"
import type NodeTest from "node:test"
import { DeliveryRules } from "../../src/core/delivery.js"
import { rules } from "../../src/core/ledger.js"

class Down extends Data.TaggedError("Down")<{ readonly why: string }> {}

type World = Map<string, number>
type Numbers = Readonly<Record<string, number>>

/** A world of a few numbers that come, change and go. */
const numbers =
  <E>(make: (world: World, stage: Simulator.Stage) => Source.Source<number, E>, open?: () => number) =>
  (stage: Simulator.Stage): SourceContract.Subject<number, E> => {
    const world: World = new Map()
    let last = 0
    return {
      source: make(world, stage),
      change: (chance) => {
        const key = `key ${chance.below(5)}`
        if (chance.happens(0.3)) world.delete(key)
        else world.set(key, ++last)
      },
      current: () => world,
      open
    }
  }

const diff = (before: Numbers, now: Numbers): ReadonlyArray<Change.Change<number>> => [
  ...Object.entries(now).flatMap(([key, value]) => {
    const known = before[key]
    if (known === value) return []
    return [known === undefined ? Change.added(key, value) : Change.modified(key, value, Option.some(known))]
  }),
  ...Object.entries(before).flatMap(([key, value]) => (key in now ? [] : [Change.removed(key, Option.some(value))]))
]

const observed = (world: World, stage: Simulator.Stage): Effect.Effect<Numbers, Down> =>
  Effect.suspend(() => {
    if (stage.fault("down", 0.1)) return Effect.fail(new Down({ why: "down" }))
    if (stage.fault("hang", 0.1)) return Effect.never
    if (stage.fault("defect", 0.1)) return Effect.dieMessage("defect")
    return Effect.succeed(Object.fromEntries(world))
  })

const NumbersSchema = Schema.Record({ key: Schema.String, value: Schema.Number })

/** What all sources over the numbers share; each plants its own mistake in it. */
const honest = {
  name: "numbers",
  state: NumbersSchema,
  item: Schema.Number,
  initial: {} as Numbers,
  rewind: (known: Numbers, keys: ReadonlyArray<string>) =>
    Object.fromEntries(Object.entries(known).filter(([key]) => !keys.includes(key))),
  onTimeout: () => new Down({ why: "timeout" })
}

const found = (before: Numbers, now: Numbers): Source.Poll<number, Numbers> => {
  const changes = diff(before, now)
  return { changes, state: changes.length === 0 ? before : now }
}

const Item = Schema.Struct({ key: Schema.String, value: Schema.Number })

/** A paged list over HTTP, as a user writes one: Link headers lead from page to page. */
const paged = (isScoped: boolean) => (stage: Simulator.Stage) => {
  const world = new Map<string, typeof Item.Type>()
  const answer = ScriptedHttpClient.list(world, { pageSize: 2 })
  const faults: ReadonlyArray<ScriptedHttpClient.Reply> = ["refused", "hang", { body: "[1", ending: "truncated" }]
  const server = ScriptedHttpClient.make((call) =>
    stage.fault("http", 0.1) ? stage.chance.pick(faults) : answer(call)
  )
  const client = isScoped ? HttpClient.withScope(server.client) : server.client
  let last = 0
  return {
    source: Source.fromListing({
      name: "https://example.com/list",
      item: Item,
      list: (url: string = "https://example.com/list") =>
        Effect.gen(function* () {
          const response = yield* client.get(url)
          const items = yield* Schema.decodeUnknown(Schema.Array(Item))(yield* response.json)
          return { items, next: /^<(.*)>; rel="next"$/.exec(response.headers["link"] ?? "")?.[1] }
        }).pipe(
          Effect.mapError(() => new Down({ why: "http" })),
          Effect.scoped
        ),
      key: (item) => item.key,
      onTimeout: () => new Down({ why: "timeout" })
    }),
    change: (chance: Simulator.Chance) => {
      const key = `key ${chance.below(7)}`
      if (chance.happens(0.3)) world.delete(key)
      else world.set(key, { key, value: ++last })
    },
    current: () => world,
    open: () => server.calls.filter(({ outcome }) => outcome === "pending").length
  }
}

const url = "https://name:word-secret@example.com/doc?sig=query-secret"

/** A document over HTTP that comes, changes and goes behind a client that fails. */
const http = (stage: Simulator.Stage) => {
  const document = ScriptedHttpClient.document()
  const faults: ReadonlyArray<ScriptedHttpClient.Reply> = [
    "refused",
    "reset",
    "hang",
    "defect",
    { status: 503, headers: { "retry-after": "5" } },
    { status: 401 },
    { body: "12345", ending: "truncated" },
    { body: "12345", ending: "hang" },
    { body: "1", delay: "3 minutes" },
    { body: "no number" },
    { ending: "endless" }
  ]
  const server = ScriptedHttpClient.make((call) =>
    stage.fault("http", 0.1) ? stage.chance.pick(faults) : document.answer(call)
  )
  const key = "https://example.com/doc?sig=query-secret"
  const world: World = new Map()
  let last = 0
  return {
    source: Source.provideContext(
      HttpSource.make({ url, schema: Schema.Number, headers: { "x-key": Redacted.make("header-secret") } }),
      Context.make(HttpClient.HttpClient, server.client)
    ),
    change: (chance: Simulator.Chance) => {
      if (chance.happens(0.3)) {
        world.delete(key)
        document.remove()
      } else {
        world.set(key, ++last)
        document.set({ json: last })
      }
    },
    current: () => world,
    open: () => server.calls.filter(({ outcome }) => outcome === "pending").length
  }
}

/** A collection over HTTP, behind the same client. */
const collection = (stage: Simulator.Stage) => {
  const world = new Map<string, typeof Item.Type>()
  const pages = ScriptedHttpClient.list(world, { pageSize: 3 })
  const faults: ReadonlyArray<ScriptedHttpClient.Reply> = ["closed", "hang", "defect", { status: 500 }, { body: "[" }]
  const server = ScriptedHttpClient.make((call) => (stage.fault("http", 0.1) ? stage.chance.pick(faults) : pages(call)))
  let last = 0
  return {
    source: Source.provideContext(
      HttpSource.collection({
        url: "https://example.com/list?token=query-secret",
        item: Item,
        key: ({ key }) => key,
        bearerToken: Redacted.make("token-secret")
      }),
      Context.make(HttpClient.HttpClient, server.client)
    ),
    change: (chance: Simulator.Chance) => {
      const key = `key ${chance.below(9)}`
      if (chance.happens(0.3)) world.delete(key)
      else world.set(key, { key, value: ++last })
    },
    current: () => world,
    open: () => server.calls.filter(({ outcome }) => outcome === "pending").length,
    // of several pages, a removal is confirmed by a second walk
    settlesAfter: 2
  }
}

const memory = (stage: Simulator.Stage) => {
  const source = Effect.runSync(Source.memory<number>())
  const world: World = new Map()
  let last = stage.chance.below(100)
  return {
    source,
    change: (chance: Simulator.Chance) => {
      const key = `key ${chance.below(5)}`
      if (chance.happens(0.3)) {
        world.delete(key)
        Effect.runSync(source.remove(key))
      } else {
        world.set(key, ++last)
        Effect.runSync(source.set(key, last))
      }
    },
    current: () => world
  }
}

const log =
  (page: (rows: ReadonlyArray<Source.LogEntry<number, number>>) => ReadonlyArray<Source.LogEntry<number, number>>) =>
  (stage: Simulator.Stage): SourceContract.Subject<number, Down> => {
    const rows: Array<number> = []
    return {
      source: Source.fromLog({
        name: "rows",
        item: Schema.Number,
        cursor: Schema.Number,
        initial: 0,
        limit: 3,
        read: (after, limit) =>
          Effect.map(observed(new Map(), stage), () =>
            page(
              rows
                .slice(after, after + limit)
                .map((value, index) => ({ cursor: after + index + 1, key: String(after + index + 1), value }))
            )
          ),
        head: Effect.sync(() => rows.length),
        onTimeout: () => new Down({ why: "timeout" })
      }),
      change: (chance) => void rows.push(...Array.from({ length: 1 + chance.below(4) }, (_, n) => rows.length + n)),
      current: () => new Map(rows.map((value, index) => [String(index + 1), value]))
    }
  }

const partial = (stage: Simulator.Stage) => {
  const world = ScriptedSource.makeWorld<number>()
  const remote = ScriptedSource.remote(world, {
    pageSize: 4,
    replies: () => (stage.fault("partial", 0.2) ? "partial" : stage.fault("fail", 0.2) ? "fail" : "answer")
  })
  return {
    source: ScriptedSource.listing(remote, { item: Schema.Number }),
    change: (chance: Simulator.Chance) => world.set(`key ${chance.below(9)}`, world.revision + 1),
    current: () => world.entries
  }
}

const Known = Schema.Struct({ revision: Schema.NullOr(Schema.Number), known: NumbersSchema })

/**
 * What changed since a revision, from a server that forgets all but its last changes: "gone" is then its answer, and the
 * source asks for everything. By mistake, it takes that for one more delta, or a call that fails for one that is empty.
 */
const deltas =
  (history: number, mistake?: "noRemovals" | "errorIsEmpty" | "errorIsRead") => (stage: Simulator.Stage) => {
    const world: World = new Map()
    const log: Array<string> = []
    interface Delta {
      readonly revision: number
      readonly values: Numbers
    }
    const ask = (since: number | null): Effect.Effect<Delta | "gone", Down> =>
      Effect.suspend((): Effect.Effect<Delta | "gone", Down> => {
        if (stage.fault("status 503", 0.2)) return Effect.fail(new Down({ why: "503" }))
        if (since !== null && log.length - since > history) return Effect.succeed("gone")
        const keys = since === null ? world.keys() : log.slice(since)
        const values = Object.fromEntries(Array.from(keys, (key) => [key, world.get(key) ?? -1]))
        return Effect.succeed({ revision: log.length, values })
      })
    const answered = (since: number | null) =>
      mistake === "errorIsEmpty" || mistake === "errorIsRead"
        ? Effect.catchTag(ask(since), "Down", () =>
            Effect.succeed<Delta>({ revision: mistake === "errorIsRead" ? log.length : (since ?? 0), values: {} })
          )
        : ask(since)
    return {
      source: Source.make({
        name: "deltas",
        state: Known,
        item: Schema.Number,
        initial: { revision: null, known: {} } as typeof Known.Type,
        onTimeout: () => new Down({ why: "timeout" }),
        poll: (before) =>
          Effect.gen(function* () {
            const delta = yield* answered(before.revision)
            const isFull = before.revision === null || (delta === "gone" && mistake !== "noRemovals")
            const found = delta === "gone" ? yield* answered(null) : delta
            if (found === "gone") return yield* new Down({ why: "gone" })
            const { revision, values } = found
            const all = Object.entries(isFull ? values : { ...before.known, ...values })
            const known: Numbers = Object.fromEntries(all.filter(([, value]) => value >= 0))
            const changes = diff(before.known, known)
            return { changes, state: revision === before.revision ? before : { revision, known } }
          })
      }),
      change: (chance: Simulator.Chance) => {
        const key = `key ${chance.below(9)}`
        if (world.has(key) && chance.happens(0.3)) world.delete(key)
        else world.set(key, log.length)
        log.push(key)
      },
      current: () => world
    }
  }

const trials = 10

const suite = <A, E>(name: string, options: SourceContract.Options<A, E>) =>
  SourceContract.suite({ describe, it }, { name, trials, ...options })

suite("Source.make", {
  mode: "listing",
  subject: numbers((world, stage) =>
    Source.make({
      ...honest,
      poll: (known) => Effect.map(observed(world, stage), (now) => found(known, now))
    })
  )
})
suite("Source.fromListing over a paged HTTP list", { mode: "listing", subject: paged(true) })
suite("Source.make over deltas that expire", { mode: "listing", subject: deltas(4) })
suite("Source.fromLog", { mode: "log", subject: log((rows) => rows) })
suite("Source.memory", { mode: "listing", subject: memory, faults: false })
suite("ScriptedSource.document", { mode: "document", subject: Simulator.document() })
suite("ScriptedSource.listing", { mode: "listing", subject: Simulator.listing() })
suite("ScriptedSource.listing with partial pages", { mode: "listing", subject: partial })
suite("ScriptedSource.log", { mode: "log", subject: Simulator.log() })
suite("HttpSource.make over ScriptedHttpClient", {
  mode: "document",
  subject: http,
  secrets: ["word-secret", "query-secret", "header-secret"]
})
suite("HttpSource.collection over ScriptedHttpClient", {
  mode: "listing",
  subject: collection,
  secrets: ["query-secret", "token-secret"]
})

describe("SourceContract", () => {
  it("check tells what it did, and has a typed error", { timeout: 60_000 }, async () => {
    const proof = SourceContract.check({
      mode: "document",
      subject: http,
      trials,
      rounds: 6,
      secrets: ["query-secret"]
    })
    expectTypeOf(proof).toEqualTypeOf<Effect.Effect<SourceContract.Report, SourceContract.Violation>>()
    const report = await Effect.runPromise(proof)
    assert.strictEqual(report.laws.length, Object.keys(SourceContract.laws).length)
    assert.isAbove(report.polls, 300)
    assert.isAbove(report.fired.get("http") ?? 0, 20)
    assert.isAbove(report.delivery.crashes, trials)
  })

  /** Runs the tests of a suite, and gives what each of them says if it fails. */
  const outcomes = async <A, E>(options: SourceContract.Options<A, E>) => {
    const tests: Array<{ readonly law: string; readonly body: () => Promise<void> }> = []
    const runner: SourceContract.Runner = {
      describe: (_, body) => body(),
      it: (name, body) => tests.push({ law: name.slice(0, name.indexOf(":")), body })
    }
    SourceContract.suite(runner, { name: "planted", trials: 1, rounds: 6, ...options })
    const failed: Record<string, string> = {}
    for (const { body, law } of tests) {
      await body().catch((error: unknown) => (failed[law] = error instanceof Error ? error.message : "no error"))
    }
    return failed
  }

  it("the suite gives each law five minutes, and fits node:test", () => {
    expectTypeOf<typeof NodeTest>().toExtend<SourceContract.Runner>()
    const timeouts = new Set<unknown>()
    const runner: SourceContract.Runner = {
      describe: (_, body) => body(),
      it: (_, _body, timeout) => timeouts.add(timeout)
    }
    SourceContract.suite(runner, { name: "a document", mode: "document", subject: Simulator.document() })
    assert.deepStrictEqual([...timeouts], [300_000])
  })

  it("the suite tells a mistake once, at the law that it breaks; laws that build on it are not reached", async () => {
    const failed = await outcomes({ mode: "listing", subject: deltas(4, "noRemovals") })
    const told = Object.entries(failed).filter(([, message]) => message.includes("expected:"))
    assert.deepStrictEqual(
      told.map(([law]) => law),
      ["current"]
    )
    for (const law of ["kinds", "shared", "rewind", "failure", "delivery"]) {
      assert.match(failed[law]!, /^not reached: deltas breaks "current" first.*\n.*removals too/)
    }
    assert.notProperty(failed, "name")
    assert.notProperty(failed, "timeout")
  })

  it("the suite tells of a source that keeps a variable only that watchers share it", async () => {
    const inVariable = numbers((world, stage) => {
      let known: Numbers = {}
      return Source.make({
        ...honest,
        poll: (state) =>
          Effect.map(observed(world, stage), (now) => {
            const { changes } = found(known, now)
            known = now
            return { changes, state: changes.length === 0 ? state : now }
          })
      })
    })
    const failed = await outcomes({ mode: "listing", subject: inVariable })
    assert.match(failed["shared"]!, /expected:.*\n.*\n.*not in a variable/)
    for (const law of ["repeatable", "state", "rewind", "interruption", "delivery"]) {
      assert.match(failed[law]!, /^not reached: numbers breaks "shared" first.*\n.*not in a variable/)
    }
    assert.notProperty(failed, "current")
  })

  const caught = <A, E>(
    law: SourceContract.Law,
    mistake: string,
    options: Omit<SourceContract.Options<A, E>, "mode"> & { readonly mode?: Simulator.Mode },
    says: RegExp
  ) =>
    it(`${law}, broken by ${mistake}`, { timeout: 60_000 }, async () => {
      const check = SourceContract.check({ mode: "listing", trials, rounds: 6, ...options })
      const violation = await Effect.runPromise(Effect.flip(check))
      assert.strictEqual(violation.law, law, violation.message)
      assert.match(violation.message, says)
      assert.include(violation.message, SourceContract.laws[law])
      // the same again, from the same seed
      assert.strictEqual((await Effect.runPromise(Effect.flip(check))).message, violation.message)
    })

  /** The honest source, but for its poll and some options. */
  const planted = (
    options: Partial<typeof honest>,
    poll: (known: Numbers, now: Numbers) => Source.Poll<number, Numbers> = found
  ) =>
    numbers((world, stage) =>
      Source.make({
        ...honest,
        ...options,
        poll: (known) => Effect.map(observed(world, stage), (now) => poll(known, now))
      })
    )

  describe("catches", () => {
    caught("name", "a query in the name", { subject: planted({ name: "https://example.com/doc?sig=x" }) }, /…/)
    caught("name", "user info in the name", { subject: planted({ name: "https://me:x@example.com" }) }, /…/)

    const forEver = numbers((world, stage) => {
      const { definition } = Source.make({ ...honest, poll: () => Effect.as(observed(world, stage), found({}, {})) })
      return Source.fromDefinition({ ...definition, timeout: Duration.infinity })
    })
    caught("timeout", "no timeout at all", { subject: forEver }, /a finite duration/)
    caught(
      "timeout",
      "a poll that hangs, and no error for it",
      { subject: planted({ onTimeout: undefined as never }) },
      /`onTimeout`/
    )

    caught(
      "ends",
      "`more` for ever",
      { subject: planted({}, (known, now) => ({ ...found(known, now), more: true })) },
      /first 1000/
    )

    const twice = planted({}, (known, now) => {
      const { changes, state } = found(known, now)
      return { changes: [...changes, ...changes.slice(0, 1)], state }
    })
    caught("keys", "a key twice in a batch", { subject: twice }, /twice in: /)
    const odd = planted({}, (known, now) => {
      const { changes, state } = found(known, now)
      return { changes: changes.map((change) => ({ ...change, key: `${change.key}\ud800` })), state }
    })
    caught("keys", "a key with a lone surrogate", { subject: odd }, /lone surrogates/)

    const addsAgain = planted({}, (known, now) => {
      const { changes, state } = found(known, now)
      return {
        changes: changes.map((change) =>
          change._tag === "Modified" ? Change.added(change.key, change.value) : change
        ),
        state
      }
    })
    caught("kinds", "Added for what is known", { subject: addsAgain }, /was known/)
    const wrongPrevious = planted({}, (known, now) => {
      const { changes, state } = found(known, now)
      return {
        changes: changes.map((change) => (change._tag === "Added" ? change : { ...change, previous: Option.some(-1) })),
        state
      }
    })
    caught("kinds", "a previous that it never was", { subject: wrongPrevious }, /the previous value \d/)

    const noRemovals = planted({}, (known, now) => {
      const changes = diff(known, now).filter(({ _tag }) => _tag !== "Removed")
      return { changes, state: changes.length === 0 ? known : now }
    })
    caught("current", "forgets to report removals", { subject: noRemovals }, /expected: \{/)

    caught(
      "current",
      "removals that it forgets when it is too far behind for a delta",
      { subject: (stage) => deltas(4, "noRemovals")({ ...stage, fault: () => false }), faults: false },
      /removals too/
    )
    // more than there is in one burst, and less than happens in an outage
    caught(
      "current",
      "removals that it forgets when it was away for long",
      { subject: deltas(37, "noRemovals"), rounds: 30 },
      /removals too/
    )

    const failsAtFirst = planted({}, (known, now) => {
      if (Object.keys(known).length === 0) throw new Error("no state yet")
      return found(known, now)
    })
    caught("complete", "a first poll that never succeeds", { subject: failsAtFirst }, /no state yet/)

    caught(
      "unchanged",
      "a new state object each poll",
      { subject: planted({}, (known, now) => ({ changes: diff(known, now), state: now })) },
      /another object/
    )

    const inClosure = numbers((world, stage) => {
      let known: Numbers = {}
      return Source.make({
        ...honest,
        poll: (state) =>
          Effect.map(observed(world, stage), (now) => {
            const { changes } = found(known, now)
            known = now
            return { changes, state: changes.length === 0 ? state : now }
          })
      })
    })
    caught("shared", "keeps what it knows in a closure", { subject: inClosure }, /not in a variable/)

    const anyOrder = numbers((world, stage) => {
      let polls = 0
      return Source.make({
        ...honest,
        poll: (known) =>
          Effect.map(observed(world, stage), (now) => {
            const { changes, state } = found(known, now)
            return { changes: polls++ % 2 === 0 ? changes : [...changes].reverse(), state }
          })
      })
    })
    caught("repeatable", "an order of its own each time", { subject: anyOrder }, /Sort what comes/)

    const Seat = Schema.Struct({ key: Schema.String, note: Schema.optionalWith(Schema.String, { default: () => "" }) })
    const lossy = Schema.transform(Schema.Struct({ key: Schema.String }), Schema.typeSchema(Seat), {
      strict: true,
      decode: ({ key }) => ({ key, note: "" }),
      encode: ({ key }) => ({ key })
    })
    const losesField = (stage: Simulator.Stage) => {
      const world = new Map<string, typeof Seat.Type>()
      let last = 0
      return {
        source: Source.fromListing({
          name: "seats",
          item: lossy,
          version: ({ note }) => note,
          list: () => Effect.as(observed(new Map(), stage), { items: [...world.values()] }),
          key: ({ key }) => key,
          snapshot: "compact",
          onTimeout: () => new Down({ why: "timeout" })
        }),
        change: (chance: Simulator.Chance) => {
          const key = `seat ${chance.below(5)}`
          world.set(key, { key, note: String(++last) })
        },
        current: () => world
      }
    }
    caught("items", "an item codec that loses a field", { subject: losesField }, /note: ''/)

    const forgetful = Schema.transform(
      Schema.Struct({ keys: Schema.Array(Schema.String) }),
      Schema.typeSchema(NumbersSchema),
      {
        strict: true,
        decode: ({ keys }) => Object.fromEntries(keys.map((key) => [key, 0])),
        encode: (known) => ({ keys: Object.keys(known) })
      }
    )
    caught(
      "state",
      "a state codec that loses the values",
      { subject: planted({ state: forgetful as never }) },
      /after a restart too/
    )
    caught(
      "state",
      "a state that JSON cannot hold",
      { subject: planted({ state: Schema.typeSchema(Schema.BigIntFromSelf) as never }) },
      /`state` a codec/
    )

    caught(
      "replay",
      "a cursor that is behind the page instead of the entry",
      { mode: "log", subject: log((rows) => rows.map((row) => ({ ...row, cursor: rows[rows.length - 1]!.cursor }))) },
      /place right behind its entry/
    )

    caught("rewind", "a rewind that forgets nothing", { subject: planted({ rewind: (known) => known }) }, /once more/)

    const startsOver = numbers((world, stage) =>
      Source.make({
        ...honest,
        recover: () => ({}),
        poll: (known) => Effect.map(observed(world, stage), (now) => found(known, now))
      })
    )
    caught("failure", "starts over after a failed poll", { subject: startsOver }, /after a failed poll/)
    caught(
      "failure",
      "a call that fails, read as an empty answer",
      { subject: deltas(4, "errorIsEmpty") },
      /expected: a poll that fails, .*\n.*with "status 503" it succeeds.*\n.*is not an empty one/
    )
    caught(
      "failure",
      "a call that fails, read as an answer that has moved on",
      { subject: deltas(4, "errorIsRead") },
      /"status 503".*\n.*is not an empty one/
    )
    caught("failure", "a subject without faults that does not say so", { subject: memory }, /none failed/)

    let open = 0
    const leaks = numbers(
      (world, stage) => {
        open = 0
        return Source.make({
          ...honest,
          poll: (known) =>
            Effect.gen(function* () {
              yield* Effect.sync(() => void open++)
              const now = yield* observed(world, stage)
              yield* Effect.yieldNow()
              open--
              return found(known, now)
            }).pipe(Effect.tapErrorCause((cause) => Effect.sync(() => void (cause._tag === "Interrupt" || open--))))
        })
      },
      () => open
    )
    caught("interruption", "what it opened stays open", { subject: leaks }, /[1-9]\d* things open/)
    // a window of one step among hundreds, wherever it is
    for (const step of [70, 71, 72]) {
      const windowed = numbers(
        (world, stage) => {
          open = 0
          return Source.make({
            ...honest,
            poll: (known) =>
              Effect.gen(function* () {
                for (let n = 0; n < 100; n++) {
                  open = n === step ? 1 : 0
                  yield* Effect.sync(() => {})
                  open = 0
                  yield* Effect.sync(() => {})
                }
                return found(known, yield* observed(world, stage))
              })
          })
        },
        () => open
      )
      caught("interruption", `a window at ${step}`, { subject: windowed }, /1 things open/)
    }
    // between head and body nobody holds the connection
    caught("interruption", "a request without a scope", { subject: paged(false) }, /1 things open/)
    const daemon = planted({})
    const forks = (stage: Simulator.Stage) => {
      const subject = daemon(stage)
      const { definition } = subject.source
      const source = Source.fromDefinition({
        ...definition,
        poll: (state: unknown) =>
          Effect.zipRight(
            Effect.forkDaemon(Effect.sleep("1 hour")),
            definition.poll(state, { committed: state, watcher: {} })
          )
      })
      return { ...subject, source }
    }
    caught("interruption", "a fiber is left behind", { subject: forks }, /1 sleeping fibers/)
    const busy = (stage: Simulator.Stage) => {
      const subject = planted({})(stage)
      const { definition } = subject.source
      let isBusy = false
      const source = Source.fromDefinition({
        ...definition,
        poll: (state: unknown) =>
          Effect.suspend(() => {
            if (isBusy) return Effect.succeed({ changes: [], state })
            isBusy = true
            return Effect.tap(
              Effect.zipLeft(definition.poll(state, { committed: state, watcher: {} }), Effect.yieldNow()),
              () => Effect.sync(() => (isBusy = false))
            )
          }).pipe(Effect.onError((cause) => Effect.sync(() => (isBusy = isBusy && cause._tag === "Interrupt"))))
      })
      return { ...subject, source }
    }
    caught("interruption", "a flag that an interruption leaves up", { subject: busy }, /interrupted at step \d+/)

    const tells = (stage: Simulator.Stage) => {
      const subject = planted({})(stage)
      const { definition } = subject.source
      const poll = (state: unknown) =>
        Effect.mapError(
          definition.poll(state, { committed: state, watcher: {} }),
          ({ why }) => new Down({ why: `${why} at /doc?sig=query-secret` })
        )
      return { ...subject, source: Source.fromDefinition({ ...definition, poll }) }
    }
    caught(
      "secrets",
      "an error with the whole url",
      { subject: tells, secrets: ["other", "query-secret"] },
      /secret 2 .* an error/
    )
    const keeps = planted({ initial: { "query-secret": 0 } as Numbers }, (known, now) => {
      const { "query-secret": _, ...rest } = known
      const { changes } = found(rest, now)
      return { changes, state: changes.length === 0 ? known : { "query-secret": 0, ...now } }
    })
    caught("secrets", "a state that holds one", { subject: keeps, secrets: ["query-secret"] }, /the saved state/)

    it("delivery: a mistake that only crashes show", { timeout: 60_000 }, async () => {
      const check = SourceContract.check({ mode: "document", subject: Simulator.document() })
      const mistaken = Effect.provideService(check, DeliveryRules, { ...rules, outbox: () => [] })
      const violation = await Effect.runPromise(Effect.flip(mistaken))
      assert.strictEqual(violation.law, "delivery")
      assert.match(violation.message, /Simulator\.(run|exhaust)\(\{ mode, subject, seed: 1, firstTrial: \d+/)
    })
  })
})

describe("SourceContract: values that JSON cannot tell apart", () => {
  const Rare = Schema.Struct({ ids: Schema.Set(Schema.Number), size: Schema.BigInt, at: Schema.Date })

  it("are told apart", { timeout: 60_000 }, async () => {
    const subject = (stage: Simulator.Stage) => {
      const world = new Map<string, typeof Rare.Type>()
      let n = 0
      return {
        source: Source.map(
          Source.fromListing({
            name: "rare",
            item: Schema.Tuple(Schema.String, Rare),
            list: () =>
              Effect.suspend(() =>
                stage.fault("down", 0.1) ? Effect.fail("down") : Effect.succeed({ items: [...world] })
              ),
            key: ([key]) => key,
            removalGuard: false
          }),
          ([, value]) => value
        ),
        change: (chance: Simulator.Chance) => {
          const key = `key ${chance.below(5)}`
          if (chance.happens(0.2)) world.delete(key)
          else world.set(key, { ids: new Set([++n]), size: 2n ** 60n + BigInt(n), at: new Date(n) })
        },
        current: () => world
      }
    }
    const report = await Effect.runPromise(SourceContract.check({ mode: "listing", subject }))
    assert.isAbove(report.polls, 100)
  })
})
