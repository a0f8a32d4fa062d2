/**
 * The error of an HTTP source, made where an answer is classified, once.
 */
import * as Schema from "effect/Schema"
import * as validators from "./validators.js"

/**
 * A poll that failed. Every reason is a delay for a watch without `retry`, none ends it; with `retry` the schedule decides,
 * and `isRetryable` says whether the same request may succeed without anybody changing something.
 *
 * - `Network`: no connection, or it broke before the answer. Retryable.
 * - `Timeout`: no complete answer in time. Retryable.
 * - `Status`: an answer that is no content, such as 500 (retryable, as 408, 425, 429 and 2xx) or 400 (not).
 * - `Unauthorized`: 401 again with fresh credentials, or 403. Not retryable.
 * - `Truncated`: the body ended too early. Retryable.
 * - `TooLarge`: the body is larger than `maxBodyBytes`; the download was aborted. Not retryable.
 * - `Decode`: the body is not what the schema says, not JSON, or compressed in an unknown way; or a Link header or the
 *   address of a next page cannot be read. Retryable.
 * - `Redirect`: a circle, too many, or to no address. Not retryable.
 * - `InvalidRequest`: the credentials hold something that no header can carry. Not retryable.
 *
 * **Details** The message names the source and what to do. It holds no query, user info, header or body, and neither does
 * any other field; so there is no `cause` either.
 *
 * **Example**
 * ```ts
 * import { Schedule } from "effect"
 * import { Backoff, Watcher } from "effect-periscope"
 * import { HttpSource } from "effect-periscope/http"
 *
 * const flags = HttpSource.make({ url: "https://config.example.com/flags.json" })
 *
 * // ends at once on what is not retryable, such as a 403, and after an hour of anything else
 * const changes = Watcher.changes(flags, {
 *   retry: Backoff.make({ first: "1 second", max: "1 minute", within: "1 hour" }).pipe(
 *     Schedule.whileInput((error: HttpSource.HttpSourceError) => error.isRetryable)
 *   )
 * })
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class HttpSourceError extends Schema.TaggedError<HttpSourceError>("effect-periscope/HttpSourceError")(
  "HttpSourceError",
  {
    reason: validators.Reason,
    source: Schema.String,
    message: Schema.String,
    status: Schema.optional(Schema.Number),
    /** How long the server asks to wait. */
    retryAfter: Schema.optional(Schema.Duration)
  }
) {
  /** Whether the same request may succeed later without anybody changing something. */
  get isRetryable(): boolean {
    return validators.isRetryable(this.reason, this.status)
  }
}

export const toError =
  (source: string) =>
  ({ reason, detail, status, retryAfter }: validators.Failure): HttpSourceError =>
    new HttpSourceError({ reason, source, message: `${source} ${detail}`, status, retryAfter })
