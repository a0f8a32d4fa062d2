/**
 * When a controller ticks: a state machine of plain values. It knows no effects; time is given, in milliseconds.
 */

/** Why a tick began. `manual`: somebody asked for it. */
export type Trigger = "start" | "event" | "retry" | "requeue" | "fallback" | "manual"

export interface Rules {
  readonly debounce: number
  readonly maxWait: number
  /** `Infinity`: there is none. */
  readonly fallback: number
}

/** How a tick ended. `wait`: until it is tried again; what was interrupted is to be done again. */
export type Ended =
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Succeeded"; readonly requeueAfter: number | undefined }
  | { readonly _tag: "Failed"; readonly wait: number }
  | { readonly _tag: "Terminal" }

export interface Plan {
  /** It is to tick at once: what happened before it ran, nobody heard. */
  readonly isStarting: boolean
  readonly isRunning: boolean
  /** The first and the latest event that no tick has seen. */
  readonly opened: number | undefined
  readonly latest: number
  /** When the last tick ended. */
  readonly lastEnd: number | undefined
  readonly failures: number
  readonly retryAt: number | undefined
  /** One deadline, however often it was asked for. */
  readonly requeueAt: number | undefined
  /** Only an event helps. */
  readonly isTerminal: boolean
}

export interface Due {
  readonly at: number
  readonly trigger: Trigger
}

export const initial: Plan = {
  isStarting: true,
  isRunning: false,
  opened: undefined,
  latest: 0,
  lastEnd: undefined,
  failures: 0,
  retryAt: undefined,
  requeueAt: undefined,
  isTerminal: false
}

/** The controller runs, also where it did before or somebody asked for a tick. */
export const begun = (plan: Plan): Plan => ({ ...plan, isStarting: true })

/** Something happened. During a tick it asks for exactly one more. */
export const event = (plan: Plan, now: number): Plan => ({ ...plan, opened: plan.opened ?? now, latest: now })

/** The next tick; `undefined`: one runs, or none is due without an event. */
export const next = (plan: Plan, rules: Rules): Due | undefined => {
  if (plan.isRunning) return undefined
  if (plan.isStarting) return { at: -Infinity, trigger: "start" }
  const { lastEnd = Infinity, opened, requeueAt, retryAt } = plan
  const window = opened === undefined ? undefined : Math.min(plan.latest + rules.debounce, opened + rules.maxWait)
  // a failed tick waits for its retry, which may be later
  const fallback = plan.failures > 0 || plan.isTerminal ? undefined : lastEnd + rules.fallback
  const all: ReadonlyArray<readonly [Trigger, number | undefined]> = [
    ["event", window],
    ["retry", retryAt],
    ["requeue", requeueAt],
    ["fallback", fallback]
  ]
  let due: Due | undefined
  for (const [trigger, at] of all) {
    if (at !== undefined && at < (due?.at ?? Infinity)) due = { at, trigger }
  }
  return due
}

/** A tick begins: it sees what happened until now. */
export const started = (plan: Plan, now: number): Plan => ({
  ...plan,
  isStarting: false,
  isRunning: true,
  opened: undefined,
  retryAt: undefined,
  requeueAt: plan.requeueAt !== undefined && plan.requeueAt <= now ? undefined : plan.requeueAt
})

/** A tick has ended: of the deadlines that are asked for the earlier one holds. */
export const ended = (plan: Plan, now: number, how: Ended): Plan => {
  const over: Plan = { ...plan, isRunning: false, lastEnd: now, isTerminal: false }
  switch (how._tag) {
    case "Interrupted":
      return { ...over, retryAt: now, isTerminal: plan.isTerminal }
    case "Succeeded": {
      const asked = how.requeueAfter === undefined ? Infinity : now + how.requeueAfter
      const requeueAt = Math.min(plan.requeueAt ?? Infinity, asked)
      return { ...over, failures: 0, requeueAt: requeueAt === Infinity ? undefined : requeueAt }
    }
    case "Failed":
      return { ...over, failures: plan.failures + 1, retryAt: now + how.wait }
    case "Terminal":
      return { ...over, failures: plan.failures + 1, requeueAt: undefined, isTerminal: true }
  }
}
