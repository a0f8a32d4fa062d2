/**
 * Observes one document: asks with the validators of what is known, and lets `validators` say what the answer means.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Poll } from "../core/Source.js"
import * as Source from "../core/Source.js"
import type { HttpSourceError } from "./httpSourceError.js"
import * as request from "./request.js"
import * as validators from "./validators.js"

/**
 * What a document takes beside the request.
 *
 * - `maxPreviousBytes`: larger bodies are not kept, their `previous` is unknown [1 MiB].
 * - `confirmRemovals`: how many 404 or 410 in a row make a removal [1]. Failed polls between them do not count.
 * - `revalidateAfter`: asks for the whole document, without validators, at least this often [never].
 */
export interface DocumentOptions {
  readonly maxPreviousBytes?: number | undefined
  readonly confirmRemovals?: number | undefined
  readonly revalidateAfter?: Duration.DurationInput | undefined
}

const check = (options: DocumentOptions): validators.Policy => ({
  maxPreviousBytes: request.checkNumber("maxPreviousBytes", options.maxPreviousBytes ?? 1024 * 1024, 0),
  confirmRemovals: request.checkNumber("confirmRemovals", options.confirmRemovals ?? 1, 1),
  revalidateMillis:
    options.revalidateAfter === undefined
      ? null
      : Duration.toMillis(request.checkDuration("revalidateAfter", options.revalidateAfter))
})

/** Makes the source of what is stored: its items hold no url, and its key is the name. */
export const make = <E, R>(
  options: DocumentOptions,
  requests: request.Requests<E, R>
): Source.Source<validators.StoredItem, HttpSourceError | E, HttpClient.HttpClient | R> => {
  const { identity, name, onTimeout, timeout, traced } = requests
  const poll = observe(requests, check(options))
  return Source.make<
    validators.DocumentState,
    validators.StoredItem,
    HttpSourceError | E,
    HttpClient.HttpClient | R,
    typeof validators.DocumentState.Encoded,
    typeof validators.StoredItem.Encoded
  >({
    name,
    identity: `http:${identity}`,
    state: validators.DocumentState,
    item: validators.StoredItem,
    initial: validators.initial,
    rewind: validators.rewind,
    poll: (state) => traced("HttpSource.poll", poll(state)),
    timeout,
    onTimeout
  })
}

type Observed = Poll<validators.StoredItem, validators.DocumentState>

const observe =
  <E, R>({ ask, fail, failStatus, name, url }: request.Requests<E, R>, policy: validators.Policy) =>
  (state: validators.DocumentState): Effect.Effect<Observed, HttpSourceError | E, HttpClient.HttpClient | R> =>
    Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => {
      const observing = (
        conditions: request.Question["conditions"]
      ): Effect.Effect<Observed, HttpSourceError | E, HttpClient.HttpClient | R> =>
        Effect.flatMap(ask({ url, conditions }), ({ answer }) => {
          const decision = validators.decide(name, state, answer, nowMillis, policy)
          if (decision._tag === "Observed") return Effect.succeed(decision)
          if (decision._tag === "Failure") return Effect.fail(fail(decision))
          return conditions === "withoutValidators" ? failStatus(answer) : observing("withoutValidators")
        })
      return observing(validators.conditions(state, nowMillis, policy.revalidateMillis))
    })
