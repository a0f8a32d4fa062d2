/**
 * Runs a plan: one watcher per source, each on its own, their changes printed and handed to the command.
 *
 * A change is committed once its line was written, or, with a command, once that exited with 0. A stop lets what runs
 * finish, for a bounded time.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Subscribable from "effect/Subscribable"
import * as Backoff from "../core/Backoff.js"
import type { CheckpointError } from "../core/Checkpoints.js"
import * as Checkpoints from "../core/Checkpoints.js"
import * as Watcher from "../core/Watcher.js"
import type { WatchStatus } from "../core/WatchStatus.js"
import type { SocketError } from "../socket/ReconnectingSocket.js"
import * as exec from "./exec.js"
import { HeldBack, nothingHeld } from "./heldBack.js"
import type { Found } from "./line.js"
import * as line from "./line.js"
import { inOptions } from "./logger.js"
import * as logPeer from "./logPeer.js"
import type { Plan, PlannedSource } from "./plan.js"
import { isHttp, isTap, isWs } from "./plan.js"
import * as pretty from "./pretty.js"
import type { Progress } from "./progress.js"
import type { Screen } from "./screen.js"
import { OutputFailed } from "./screen.js"
import * as signals from "./signals.js"
import * as sources from "./sources.js"
import type { Command } from "./statusLine.js"
import * as statusLine from "./statusLine.js"
import { clean, coloured, plain, width } from "./text.js"
import { showMillis } from "./units.js"
import type { Value } from "./value.js"
import type { SourceError } from "./watched.js"

const watcherOptions = (plan: Plan, name: string) => {
  const { giveUpAfterMillis, intervalMillis, jitter, maxBackoffMillis } = plan
  const isOnce = plan.command === "once"
  const retry: Schedule.Schedule<unknown, SourceError> | undefined = isOnce
    ? Schedule.stop
    : giveUpAfterMillis === undefined && jitter === 0
      ? undefined
      : Backoff.make({
          first: Math.min(2 * intervalMillis, maxBackoffMillis),
          max: maxBackoffMillis,
          floor: intervalMillis,
          jitter,
          within: giveUpAfterMillis
        })
  return {
    interval: intervalMillis,
    maxBackoff: maxBackoffMillis,
    schedule: isOnce ? Schedule.stop : undefined,
    retry,
    initial: plan.initial,
    checkpoint: plan.state === undefined ? undefined : name,
    batchSize: plan.exec === undefined ? undefined : 1
  }
}

/** A source that runs: its watcher, and what its command does. */
interface Running {
  readonly name: string
  readonly watcher: Followed
  readonly progress: Progress | undefined
  readonly heldBack: HeldBack
  /** Whether what was not handled comes again in another run. */
  readonly comesAgain: boolean
  command: Command
}

/** What is used of a watcher; what a socket brings has no more. */
interface Followed extends Pick<Watcher.Watcher<Value, WatchError>, "approve" | "batches" | "drain"> {
  readonly status: Subscribable.Subscribable<Pick<WatchStatus, "phase">>
}

type WatchError = SourceError | CheckpointError

/** What the sources of a run share. */
interface Run {
  readonly plan: Plan
  readonly screen: Screen
  readonly format: (found: Found) => string
  readonly stop: Deferred.Deferred<void>
  readonly running: Array<Running>
  failed: boolean
}

/** A source ready to run; none where it cannot be, which is said. */
const make = (run: Run, planned: PlannedSource): Effect.Effect<Option.Option<Running>, never, Needs | Scope.Scope> =>
  Effect.gen(function* () {
    const { plan, screen } = run
    const { name } = planned.target
    const setting = { name, pid: process.pid, isOnce: plan.command === "once", hasState: plan.state !== undefined }
    const command: Command = { _tag: "Idle" }
    if (isTap(planned)) {
      const feed = yield* logPeer.load("a Tap server", "ws@8", () => import("./tapFeed.js"))
      const watcher = yield* feed.make(planned, plan)
      const heldBack = new HeldBack({ ...setting, progress: undefined })
      const comesAgain = planned.options.acks
      return Option.some<Running>({ name, watcher, progress: undefined, heldBack, comesAgain, command })
    }
    if (isWs(planned)) {
      const feed = yield* logPeer.load("a WebSocket", "ws@8", () => import("./wsFeed.js"))
      const watcher = yield* feed.make(planned, plan)
      const heldBack = new HeldBack({ ...setting, progress: undefined })
      return Option.some<Running>({ name, watcher, progress: undefined, heldBack, comesAgain: false, command })
    }
    const { progress, source } = yield* sources.make(planned, plan, !screen.hasStatus)
    const heldBack = new HeldBack({ ...setting, progress })
    const watcher = yield* Watcher.make(heldBack.following(source), watcherOptions(plan, name))
    if (plan.approve.includes(name)) yield* watcher.approve
    return Option.some<Running>({ name, watcher, progress, heldBack, comesAgain: true, command })
  }).pipe(
    Effect.catchAll((error) =>
      Effect.sync(() => {
        reportFailure(run, planned.target.name, Cause.fail(error))
        return Option.none()
      })
    )
  )

type Needs = HttpClient.HttpClient | Checkpoints.Checkpoints

// ---------------------------------------------------------------- one source

/** Handles the changes of one source until there are none; says what ended it for good. */
const follow = (run: Run, running: Running): Effect.Effect<void, OutputFailed> =>
  Stream.runForEach(running.watcher.batches, (batch) => handle(run, running, batch)).pipe(
    run.plan.command === "once" ? failingFast(running) : (effect) => effect,
    Effect.catchAllCause((cause) => {
      const failure = Cause.failureOption(cause)
      if (failure._tag === "Some" && failure.value instanceof OutputFailed) return Effect.fail(failure.value)
      if (Cause.isInterruptedOnly(cause)) return Effect.void
      return Effect.sync(() => reportFailure(run, running.name, cause as Cause.Cause<WatchError>))
    })
  )

const handle = (
  run: Run,
  running: Running,
  batch: Watcher.Batch<Value, WatchError>
): Effect.Effect<void, WatchError | OutputFailed> => {
  const { changes, commit, ids, observedAt, redelivered } = batch
  const found = changes.map((change, index): Found => ({
    id: ids[index]!,
    source: running.name,
    observedAt,
    redelivered,
    change
  }))
  const print = Effect.suspend(() => run.screen.write(found.map((found) => `${run.format(found)}\n`).join("")))
  const command = run.plan.exec
  if (command === undefined) return Effect.zipRight(print, commit)
  const runAll = Effect.forEach(found, (found) => runUntilDone(run, running, `${line.encode(found)}\n`), {
    discard: true
  })
  return Effect.flatMap(Deferred.isDone(run.stop), (isStopped) =>
    // what is at hand already may be thousands of changes
    isStopped && running.comesAgain ? Effect.interrupt : runAll.pipe(Effect.zipRight(commit), Effect.zipRight(print))
  )
}

/** Runs the command until it exits with 0. A stop ends the wait between two attempts. */
const runUntilDone = (run: Run, running: Running, input: string): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { command, timeoutMillis } = run.plan.exec!
    const options: exec.Options = { timeoutMillis, onOutput: run.screen.hasStatus ? run.screen.note : undefined }
    for (let attempt = 1; ; attempt++) {
      running.command = { _tag: "Running", since: yield* Clock.currentTimeMillis }
      const problem = yield* Effect.match(exec.run(command, input, options), {
        onSuccess: () => undefined,
        onFailure: ({ message }) => message
      })
      if (problem === undefined) {
        running.command = { _tag: "Idle" }
        return
      }
      if (yield* Deferred.isDone(run.stop)) return yield* Effect.interrupt
      const wait = Math.min(1000 * 2 ** (attempt - 1), 60_000)
      const until = (yield* Clock.currentTimeMillis) + wait
      running.command = { _tag: "Waiting", attempt, until, problem }
      yield* Effect.annotateLogs(
        Effect.logWarning(
          `${running.name}: the command ${problem} (attempt ${attempt}, again in ${showMillis(wait)}); its change waits`
        ),
        { "periscope.source": running.name, attempt, waitMillis: wait }
      )
      const isStopped = yield* Effect.raceFirst(
        Effect.as(Effect.sleep(wait), false),
        Effect.as(Deferred.await(run.stop), true)
      )
      if (isStopped) return yield* Effect.interrupt
    }
  })

/** For one attempt: what would be tried again, such as a checkpoint that cannot be written, is the end. */
const failingFast =
  ({ watcher }: Running) =>
  <E>(effect: Effect.Effect<void, E>): Effect.Effect<void, E | WatchError> =>
    Effect.raceFirst(
      effect,
      watcher.status.changes.pipe(
        Stream.filterMapEffect(({ phase }) =>
          phase._tag === "Backoff"
            ? Option.some(Effect.failCause(phase.error as Cause.Cause<WatchError>))
            : Option.none()
        ),
        Stream.runDrain,
        Effect.zipRight(Effect.never)
      )
    )

/** Says in one sentence why a source, or all of them (`name` is undefined), can go on no more. */
const reportFailure = (run: Run, name: string | undefined, cause: Cause.Cause<WatchError>): void => {
  run.failed = true
  const { giveUpAfterMillis, command, initial, logLevel } = run.plan
  const whatIsThere = initial === "emit" ? "the oldest entry there is" : "what comes from now on"
  const error = Cause.squash(cause)
  const isCheckpoint = error instanceof Checkpoints.CheckpointError
  const isExpired = Predicate.isTagged(error, "CursorExpired")
  const isFatal =
    (Predicate.hasProperty(error, "isFatal") && error.isFatal === true) ||
    (Predicate.isTagged(error, "SocketError") && (error as SocketError).isRetryable === false)
  const sentence = [
    inOptions(statusLine.describe(cause)).replace(/[.]$/, ""),
    isCheckpoint && name !== undefined ? ` (to forget it: --reset ${name})` : "",
    isExpired
      ? ` (to go on with ${whatIsThere}: ${run.plan.state === undefined ? "start it again" : `--reset ${name}`})`
      : "",
    !isCheckpoint && !isFatal && command === "watch" && giveUpAfterMillis !== undefined
      ? `; given up after ${showMillis(giveUpAfterMillis)} of failed polls`
      : ""
  ].join("")
  const subject =
    name === undefined || /^:? /.test(sentence.startsWith(name) ? sentence.slice(name.length) : "") ? "" : `${name}: `
  const detail = logLevel === "debug" ? `${Cause.pretty(cause, { renderErrorCause: true })}\n` : ""
  const ended = `${clean(subject + sentence)}.`.replace(/[?]\.$/, "?")
  run.screen.note(`periscope: ${ended}\n${detail}`)
}

// ---------------------------------------------------------------- all of them

/** How long a stop waits for what runs. */
const graceMillis = 10_000

/** Follows all sources until they end, one cannot print, or `stop`. Gives the exit code. */
export const run = (
  plan: Plan,
  screen: Screen,
  stop: Deferred.Deferred<void>
): Effect.Effect<number, never, HttpClient.HttpClient> => {
  const state: Run = { plan, screen, format: formatter(plan, screen), stop, running: [], failed: false }
  return Effect.scoped(
    Effect.gen(function* () {
      const checkpoints = yield* Layer.build(checkpointsOf(plan))
      yield* Effect.provide(resetAll(plan), checkpoints)
      const running = yield* Effect.provide(
        Effect.forEach(plan.sources, (planned) => make(state, planned)),
        checkpoints
      )
      state.running.push(...running.flatMap(Option.toArray))
      yield* approveOnSignal(state)
      if (screen.hasStatus) yield* Effect.forkScoped(drawStatus(state))
      yield* followAll(state)
    })
  ).pipe(
    Effect.catchAllCause((cause) => {
      const failure = Cause.failureOption(cause)
      if (failure._tag === "None" || !(failure.value instanceof OutputFailed)) {
        return Effect.sync(() => reportFailure(state, undefined, cause as Cause.Cause<WatchError>))
      }
      const { isClosed, message } = failure.value
      if (isClosed) return Effect.void
      return Effect.sync(() => {
        state.failed = true
        screen.note(`periscope: ${message}.\n`)
      })
    }),
    Effect.ensuring(Effect.sync(() => screen.show(""))),
    Effect.map(() => (state.failed ? 1 : 0))
  )
}

/** SIGUSR1 lets all removals pass that are held back. */
const approveOnSignal = ({ running }: Run): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const runtime = yield* Effect.runtime()
    const approveAll = Effect.forEach(
      running,
      ({ heldBack, name, watcher }) =>
        heldBack.plan === undefined
          ? Effect.annotateLogs(Effect.logInfo(`${name}: ${nothingHeld}`), { "periscope.source": name })
          : watcher.approve,
      { discard: true }
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => signals.handleApproval(() => Runtime.runFork(runtime)(approveAll))),
      () => Effect.sync(() => signals.handleApproval(() => {}))
    )
  })

const checkpointsOf = (plan: Plan): Layer.Layer<Checkpoints.Checkpoints, CheckpointError> =>
  plan.state === undefined
    ? Checkpoints.layerMemory
    : Checkpoints.layerFileSystem({ directory: plan.state }).pipe(
        Layer.provide(Layer.merge(NodeFileSystem.layer, NodePath.layer))
      )

const resetAll = (plan: Plan): Effect.Effect<void, CheckpointError, Checkpoints.Checkpoints> =>
  Effect.gen(function* () {
    const checkpoints = yield* Checkpoints.Checkpoints
    for (const name of plan.reset) {
      const wasThere = yield* checkpoints.remove(name)
      yield* wasThere
        ? Effect.logInfo(`${name}: its checkpoint is forgotten`)
        : Effect.logWarning(`${name}: there is no checkpoint of that name in ${plan.state}`)
    }
  })

const followAll = (run: Run): Effect.Effect<void, OutputFailed> =>
  Effect.gen(function* () {
    const following = yield* Effect.fork(
      Effect.forEach(run.running, (running) => follow(run, running), { concurrency: "unbounded", discard: true })
    )
    yield* Effect.raceFirst(Fiber.await(following), Deferred.await(run.stop))
    // what ended without its commit is drained never: the fiber says when all is over, not the drains
    const drains = Effect.forEach(run.running, ({ watcher }) => watcher.drain, {
      concurrency: "unbounded",
      discard: true
    })
    const exit = yield* Effect.timeoutTo(
      Effect.raceFirst(Fiber.await(following), Effect.zipRight(drains, Effect.never)),
      {
        duration: graceMillis,
        onSuccess: (exit) => exit,
        onTimeout: () => Exit.void
      }
    )
    yield* Effect.timeoutOption(Effect.disconnect(Fiber.interrupt(following)), "3 seconds")
    yield* exit
  })

const formatter = (plan: Plan, screen: Screen): ((found: Found) => string) => {
  const isPretty = plan.format === "pretty" || (plan.format === undefined && screen.isTerminal)
  if (!isPretty) return line.encode
  const widest = (texts: ReadonlyArray<string>): number => Math.max(0, ...texts.map(width))
  const nameColumns = widest(plan.sources.map(({ target }) => clean(target.name)))
  const keyColumns = widest(
    plan.sources.map((planned) =>
      isHttp(planned) && planned.paths === undefined
        ? pretty.shownKey(planned.target.url.href, planned.target.name)
        : ""
    )
  )
  const paint = screen.hasColour.stdout ? coloured : plain
  return (found) => pretty.format(found, { paint, nameColumns, keyColumns, columns: screen.columns })
}

const drawStatus = ({ running, screen }: Run): Effect.Effect<void> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const entries = yield* Effect.forEach(running, ({ command, name, progress, watcher }) =>
      Effect.map(watcher.status.get, ({ phase }): statusLine.Entry => ({
        name,
        phase,
        command,
        listed: progress?.longSince(now)
      }))
    )
    const paint = screen.hasColour.stderr ? coloured : plain
    screen.show(statusLine.format(entries, now, screen.statusColumns, paint))
  }).pipe(Effect.zipRight(Effect.sleep(200)), Effect.forever)
