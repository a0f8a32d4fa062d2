/**
 * The laws of a source, each as a program that fails where it is broken.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { isDeepStrictEqual } from "node:util"
import * as Change from "../core/Change.js"
import type { Polled } from "../core/Source.js"
import { fromDefinition } from "../core/Source.js"
import * as Watcher from "../core/Watcher.js"
import type { Law } from "./sourceBench.js"
import { linesOf, Observer } from "./sourceBench.js"
import { failure, interruption, secrets } from "./sourceFaultLaws.js"
import type { OnBench, Program } from "./sourcePrograms.js"
import { atEachState, onBenches, sharedAdvice, staleAdvice } from "./sourcePrograms.js"
import { valueText } from "./valueText.js"

const name: OnBench = (bench) => {
  const { name } = bench.source
  return name !== "" && !name.includes("?") && !/:\/\/[^/]*@/.test(name)
    ? Effect.void
    : bench.violation(
        "name",
        "a name such as https://example.com/doc",
        JSON.stringify(name.replace(/(\?|(?<=:\/\/)[^/]*@).*/, "$1…")),
        "Name the source by what it is; it is shown in logs, spans, metrics and change ids."
      )
}

const timeout: OnBench = (bench) =>
  Effect.gen(function* () {
    const { onTimeout, timeout } = bench.definition
    if (!Duration.isFinite(timeout) || Duration.toMillis(timeout) <= 0) {
      return yield* bench.violation(
        "timeout",
        "a finite duration above zero",
        Duration.format(timeout),
        "Give a `timeout`: one call that never answers would stop the watch for ever."
      )
    }
    if (onTimeout === undefined) return
    const error = yield* Effect.exit(Effect.sync((): unknown => onTimeout(timeout)))
    if (Exit.isSuccess(error) && Predicate.hasProperty(error.value, "_tag")) return
    return yield* bench.violation(
      "timeout",
      "a tagged error from `onTimeout`",
      Exit.isSuccess(error) ? String(error.value) : Cause.pretty(error.cause),
      "Let `onTimeout` return the source's own error, with a reason that says timeout."
    )
  })

const current: OnBench = (bench) =>
  Effect.gen(function* () {
    const observer = new Observer(bench)
    for (let round = 0; round < bench.options.rounds; round++) {
      if (round > 0) bench.change()
      yield* observer.settle()
      yield* observer.isCurrent("current", staleAdvice)
    }
  })

const complete: OnBench = (bench) =>
  Effect.gen(function* () {
    const observer = new Observer(bench)
    let polls = 0
    // one that never ends would never let time pass
    const source = fromDefinition({
      ...bench.definition,
      poll: (state: unknown, polled: Polled<unknown>) =>
        polls++ < bench.options.maxPolls ? bench.definition.poll(state, polled) : Effect.never
    })
    const isSynced = yield* Effect.scoped(
      Effect.gen(function* () {
        const watcher = yield* Watcher.make(source)
        const handle = (change: Change.Change<unknown>) =>
          Effect.sync(() => {
            if (change._tag === "Removed") observer.view.delete(change.key)
            else observer.view.set(change.key, valueText(change.value))
          })
        yield* Effect.forkScoped(watcher.runForEach(handle))
        return Option.isSome(yield* Effect.timeoutOption(Effect.ignore(watcher.awaitSynced), "1 hour"))
      })
    )
    if (!isSynced) {
      return yield* bench.violation(
        "complete",
        "a complete observation within an hour",
        "a watch that is not synced",
        "Leave `more` out of the poll that completes an observation, and let polls succeed while nothing goes wrong."
      )
    }
    yield* observer.isCurrent("complete", "Say `more: true` until all that is there was reported, and no longer.")
  })

const unchanged: OnBench = (bench) =>
  Effect.gen(function* () {
    const { durable } = bench.definition
    const observer = new Observer(bench)
    for (let round = 0; round < bench.options.rounds; round++) {
      if (round > 0) bench.change()
      yield* observer.settle()
      // what a first look leaves to be remembered may be so once
      const before = durable(observer.state)
      const changes = yield* observer.observe()
      if (changes.length > 0) {
        return yield* bench.violation("unchanged", "no changes", linesOf(changes), staleAdvice)
      }
      if (durable(observer.state) !== before) {
        return yield* bench.violation(
          "unchanged",
          "the state that the poll was given (===)",
          "another object, so that each idle poll would be saved",
          "Return the state that `poll` was given where nothing has changed."
        )
      }
    }
  })

const shared: OnBench = (bench) =>
  Effect.gen(function* () {
    const pair = [new Observer(bench), new Observer(bench)]
    const { rounds } = bench.options
    const together = Effect.gen(function* () {
      for (let round = 0; round < rounds; round++) {
        if (round > 0) bench.change()
        // page by page in turn, then one after the other
        const first = yield* Effect.forEach(pair, (observer) => observer.step())
        for (const [index, { result }] of first.entries()) if (result.more === true) yield* pair[index]!.observe()
        for (const observer of pair) {
          yield* observer.settle()
          yield* observer.isCurrent("shared", sharedAdvice)
        }
      }
    })
    yield* Effect.mapError(together, (found) =>
      found.law === "kinds" ? bench.violation("shared", found.expected, found.found, sharedAdvice) : found
    )
  })

const repeatable = atEachState((bench, { state }) =>
  Effect.gen(function* () {
    const first = linesOf((yield* bench.poll(state)).changes)
    for (let time = 0; time < 2; time++) {
      const again = linesOf((yield* bench.poll(state)).changes)
      if (again === first) continue
      return yield* bench.violation(
        "repeatable",
        first,
        again,
        `Sort what comes in no order of its own. ${sharedAdvice}`
      )
    }
  })
)

const items = atEachState((bench, { state }) =>
  Effect.gen(function* () {
    const { change, item } = bench.definition
    const { changes, stored } = yield* bench.poll(state)
    const codec = Change.schema(item)
    const isSame = Schema.equivalence(Schema.typeSchema(item))
    const broken = (expected: string, found: string) =>
      bench.violation("items", expected, found, "Give `item` a codec that decodes what it encodes, every field of it.")
    for (const [index, before] of stored.entries()) {
      const line = linesOf([before])
      const after = yield* Schema.encode(codec)(before).pipe(
        Effect.flatMap((encoded) => Schema.decodeUnknown(codec)(JSON.parse(JSON.stringify(encoded)) as unknown)),
        Effect.mapError((error) => broken(line, error.message))
      )
      const isEqual =
        linesOf([after]) === line &&
        (before._tag === "Removed" ||
          after._tag === "Removed" ||
          isDeepStrictEqual(after.value, before.value) ||
          isSame(after.value, before.value))
      if (!isEqual) return yield* broken(line, linesOf([after]))
      if (change === undefined) continue
      const delivered = yield* Effect.exit(change(after))
      const text = Exit.isSuccess(delivered) ? linesOf(Option.toArray(delivered.value)) : Cause.pretty(delivered.cause)
      const expected = linesOf([changes[index]!])
      if (text !== expected) return yield* broken(expected, text)
    }
  })
)

const state = atEachState((bench, observer) =>
  Effect.gen(function* () {
    const restarted = yield* bench.restarted(observer.state)
    const live = linesOf(yield* observer.branch(observer.state).observe())
    // what a wrong state finds may be impossible: that is told as what it is
    const again = linesOf(yield* observer.branch(restarted, false).observe())
    if (live === again) return
    return yield* bench.violation(
      "state",
      `after a restart too: ${live}`,
      again,
      "Let the codec of the state keep all that `poll` looks at; what it drops, a restart has forgotten."
    )
  })
)

const replay = atEachState((bench, observer) =>
  Effect.gen(function* () {
    const { replays } = bench.definition
    const { result, changes } = yield* bench.poll(observer.state)
    if (!replays || result.stateAfter === undefined) return
    for (const index of changes.keys()) {
      const rest = linesOf(changes.slice(index + 1))
      const found = (yield* bench.poll(result.stateAfter(index))).changes
      const again = linesOf(found.slice(0, changes.length - index - 1))
      if (again === rest) continue
      return yield* bench.violation(
        "replay",
        `behind ${linesOf([changes[index]!])}: ${rest}`,
        again,
        "Let `cursor` be the place right behind its entry, and let reading leave the log as it is."
      )
    }
  })
)

const rewind: OnBench = (bench) =>
  Effect.gen(function* () {
    if (bench.definition.replays) return
    const observer = new Observer(bench)
    for (let round = 0; round < bench.options.rounds; round++) {
      if (round > 0) bench.change()
      yield* observer.settle()
      const present = [...observer.view.keys()]
      const losses = [...present.map((key) => [key]), ...(present.length > 1 ? [present] : [])]
      for (const lost of losses) {
        const undelivered = lost.map((key) => observer.last.get(key)!)
        const rewound = observer.branch(bench.definition.rewind(observer.state, undelivered), false)
        const changes = yield* rewound.settle()
        for (const key of lost) {
          const expected = observer.view.get(key)
          const again = changes.findLast((change) => change.key === key)
          if (again !== undefined && again._tag !== "Removed" && valueText(again.value) === expected) continue
          return yield* bench.violation(
            "rewind",
            `${key} with ${expected} once more`,
            linesOf(changes),
            "Let `rewind` forget what the state knows of the keys that it is given."
          )
        }
      }
    }
  })

const told = onBenches(current)

/** The laws as programs, in the order in which they are best read; `delivery` is the simulator's. */
export const programs: Readonly<Record<Exclude<Law, "delivery">, Program>> = {
  name: onBenches(name, 1),
  timeout: onBenches(timeout, 1),
  ends: told,
  keys: told,
  kinds: told,
  current: told,
  complete: onBenches(complete),
  unchanged: onBenches(unchanged),
  shared: onBenches(shared),
  repeatable: onBenches(repeatable),
  items: onBenches(items),
  state: onBenches(state),
  replay: onBenches(replay),
  rewind: onBenches(rewind),
  failure,
  interruption: onBenches(interruption),
  secrets
}
