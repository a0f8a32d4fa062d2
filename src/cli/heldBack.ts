/**
 * Tells a person of removals that are held back: how many, until when, and how to let them pass.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Source from "../core/Source.js"
import type { Phase } from "../core/WatchStatus.js"
import type { Progress } from "./progress.js"
import { cut } from "./text.js"
import { showCount } from "./units.js"

export type Plan = Extract<Phase, { readonly _tag: "Guarded" }>["plan"]

/** What it takes to say how the removals can be let pass. */
export interface Setting {
  readonly name: string
  readonly pid: number
  readonly isOnce: boolean
  readonly hasState: boolean
  /** Of a store: what the listing under way has brought. */
  readonly progress: Progress | undefined
}

/** What was done with an approval. */
type Approval = { readonly plan: Plan | undefined; readonly isDeferred: boolean }

/** Follows the plan of one source. */
export class HeldBack {
  private current: Plan | undefined
  /** A plan that is no more: what came of it shows at the end of the observation. */
  private wasHeld = false
  private hasRemoved = false
  private approval: Approval | undefined

  constructor(private readonly setting: Setting) {}

  /** What is held back, as far as polls of this run have shown. */
  get plan(): Plan | undefined {
    return this.current
  }

  /** The same source; what its polls and approvals do is told on the log. */
  readonly following = <A, E, R>(source: Source.Source<A, E, R>): Source.Source<A, E, R> => {
    const { definition } = source
    const planOf = (state: unknown): Plan | undefined => Option.getOrUndefined(definition.plan(state))
    return Source.fromDefinition({
      ...definition,
      poll: (state, polled) =>
        Effect.suspend(() => {
          const said = this.sayApproval()
          const before = planOf(state)
          return Effect.zipRight(
            said,
            Effect.tap(definition.poll(state, polled), ({ changes, more, state: after }) => {
              this.count(changes)
              this.current = planOf(after)
              return this.say(before, more === true)
            })
          )
        }),
      approve: (state) => {
        const after = definition.approve(state)
        const plan = planOf(state)
        this.approval = { plan, isDeferred: plan !== undefined && planOf(after) !== undefined }
        return after
      }
    })
  }

  private count(changes: ReadonlyArray<{ readonly _tag: string }>): void {
    const { progress } = this.setting
    for (const { _tag } of changes) {
      if (_tag === "Removed") this.hasRemoved = true
      else if (_tag === "Added" && progress !== undefined) progress.added++
    }
  }

  private log(write: (message: string) => Effect.Effect<void>, message: string): Effect.Effect<void> {
    const { name } = this.setting
    return Effect.annotateLogs(write(`${name}: ${message}`), { "periscope.source": name })
  }

  private sayApproval(): Effect.Effect<void> {
    const { approval } = this
    if (approval === undefined) return Effect.void
    this.approval = undefined
    const { isDeferred, plan } = approval
    if (plan === undefined) return this.log(Effect.logInfo, nothingHeld)
    const what = plan.count === 1 ? "the removal that was held back" : `${showCount(plan.count)} removals`
    return this.log(Effect.logInfo, `approved: ${what}${isDeferred ? ", at the end of this listing" : ""}`)
  }

  /** What a poll has made of the plan. `isPartial`: its listing, or what it releases, goes on. */
  private say(before: Plan | undefined, isPartial: boolean): Effect.Effect<void> {
    const plan = this.current
    if (plan !== undefined) {
      // within a listing a plan can only shrink, which its end tells
      return isPartial && before !== undefined ? Effect.void : this.sayHeld(before, plan)
    }
    if (before !== undefined) {
      this.wasHeld = true
      this.hasRemoved = false
    }
    if (isPartial || !this.wasHeld) return Effect.void
    this.wasHeld = this.hasSaidAll = false
    return this.log(
      Effect.logInfo,
      this.hasRemoved ? "what was held back is removed" : "nothing is missing any more, so nothing was removed"
    )
  }

  private sayHeld(before: Plan | undefined, plan: Plan): Effect.Effect<void> {
    const { confirmListings, count, keys, listings } = plan
    const { hasState, isOnce, name, pid, progress } = this.setting
    const isOne = count === 1
    // of what was listed, all but the new ones had been there before
    const subject =
      progress === undefined
        ? `${showCount(count)} ${isOne ? "item" : "items"}`
        : `${showCount(count)} of ${showCount(progress.objects - progress.added + count)} objects`
    const missing = `${subject} ${isOne ? "is" : "are"} missing`
    if (this.hasSaidAll && before?.count === count) {
      const inARow = `${listings} of ${confirmListings} listings in a row`
      return this.log(Effect.logWarning, `${missing} still (${inARow}); none is removed yet`)
    }
    this.hasSaidAll = true
    const again = hasState ? `--approve ${quoted(name)}` : ""
    const how = isOnce ? `run it with ${again}` : `kill -USR1 ${pid}${hasState ? `, or start it with ${again}` : ""}`
    return this.log(
      Effect.logWarning,
      `${missing}, such as ${shownKeys(keys, count)}; none is removed until ${confirmListings} listings in a row miss them (${listings} so far). To remove them now: ${how}`
    )
  }

  private hasSaidAll = false
}

/** What is said where an approval finds nothing. */
export const nothingHeld = "nothing is held back, so there is nothing to approve"

/** As it is typed in a shell. */
const quoted = (name: string): string => (/^[\w./:@%+=,-]+$/.test(name) ? name : `'${name.replaceAll("'", `'\\''`)}'`)

const shownKeys = (keys: ReadonlyArray<string>, count: number): string => {
  const first = keys.slice(0, 3).map((key) => JSON.stringify(cut(key, 60)))
  return `${first.join(", ")}${count > first.length ? " …" : ""}`
}
