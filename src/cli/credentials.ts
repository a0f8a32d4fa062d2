/**
 * Headers and bearer tokens, each for the source that it is meant for. None of their values is ever shown.
 */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type { Scoped } from "./scope.js"
import { own } from "./scope.js"
import type { Target } from "./sourceUri.js"
import { hasUser, originOf } from "./sourceUri.js"

export interface Credentials {
  readonly headers: Readonly<Record<string, Redacted.Redacted>>
  readonly bearerToken: Redacted.Redacted | undefined
}

export type Environment = Readonly<Record<string, string | undefined>>

const unscoped = (targets: ReadonlyArray<Target>, option: string, example: string): Either.Either<void, string> => {
  const origins = new Set(targets.flatMap((target) => originOf(target) ?? []))
  if (origins.size === 0 && targets.length > 0) {
    return Either.left(`${option} is for sources over HTTP, WebDAV and WebSocket, and none is given; leave it out`)
  }
  return origins.size <= 1
    ? Either.void
    : Either.left(
        `${option} would go to sources of more than one origin; say which one it is for, as in ${option} ${example}`
      )
}

const forNoOrigin = (targets: ReadonlyArray<Target>, option: string, scope: string): Either.Either<void, string> =>
  targets.some((target) => target.name === scope && originOf(target) === undefined)
    ? Either.left(
        `${option} is for sources over HTTP, WebDAV and WebSocket, and ${JSON.stringify(scope)} is none; leave it out`
      )
    : Either.void

/** Reads a header: `K: V`, or `NAME:K: V` for one source. */
export const header = (
  text: string,
  targets: ReadonlyArray<Target>
): Either.Either<Scoped<readonly [name: string, value: string]>, string> => {
  const scope = targets
    .map(({ name }) => name)
    .find((name) => text.startsWith(`${name}:`) && isHeader(text.slice(name.length + 1)))
  const whole = scope === undefined ? text : text.slice(scope.length + 1)
  const colon = whole.indexOf(":")
  const name = whole.slice(0, colon)
  const value = whole.slice(colon + 1)
  if (colon <= 0 || !isToken(name)) {
    return Either.left(`a --header is not of the form 'K: V' (or 'NAME:K: V'); write it so`)
  }
  if (!/^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(value)) {
    return Either.left(`the --header ${name} holds a line break or another character that no header can carry`)
  }
  if (ofTheConnection.has(name.toLowerCase())) {
    return Either.left(`the --header ${name} belongs to the connection and is not yours to set; leave it out`)
  }
  if (scope === undefined) {
    // 'confg:Authorization: …' with a mistyped name must not go out as a header of that name
    if (/^[A-Za-z][\w-]*: /.test(value)) {
      return Either.left(`a --header is for the source ${JSON.stringify(name)}, which is not given; check the name`)
    }
    return Either.map(unscoped(targets, "--header", `'NAME:${name}: …'`), () => ({
      scope,
      value: [name, value.trim()] as const
    }))
  }
  return Either.map(forNoOrigin(targets, "--header", scope), () => ({ scope, value: [name, value.trim()] as const }))
}

const ofTheConnection = new Set([
  "connection",
  "content-length",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade"
])
const isToken = (name: string): boolean => /^[!#$%&'*+\-.^_`|~\w]+$/.test(name)
const isHeader = (text: string): boolean => isToken(text.slice(0, Math.max(0, text.indexOf(":"))))

/** Reads the name of a variable that holds a token: `VAR`, or `NAME=VAR` for one source. */
export const bearerToken = (
  text: string,
  targets: ReadonlyArray<Target>,
  environment: Environment
): Either.Either<Scoped<Redacted.Redacted>, string> => {
  const equals = text.lastIndexOf("=")
  const scope = equals < 0 ? undefined : text.slice(0, equals)
  const variable = text.slice(equals + 1)
  if (!/^[A-Za-z_]\w*$/.test(variable)) {
    return Either.left("--bearer-token-env takes the name of an environment variable (or NAME=VAR), not a token")
  }
  if (scope !== undefined && !targets.some(({ name }) => name === scope)) {
    return Either.left(
      `--bearer-token-env is for the source ${JSON.stringify(scope)}, which is not given; check the name`
    )
  }
  const token = environment[variable]?.trim() ?? ""
  if (token === "") {
    // what is not written like the name of a variable may be the token itself
    const shown = /^[A-Z][A-Z0-9_]{0,39}$/.test(variable)
      ? `the environment variable ${variable}`
      : "an environment variable"
    return Either.left(`--bearer-token-env names ${shown}, which is not set; set it`)
  }
  if (!/^[\u0021-\u007e]+$/.test(token)) {
    return Either.left(`the token in ${variable} holds blanks or other characters that no header can carry; check it`)
  }
  return Either.map(
    scope === undefined
      ? unscoped(targets, "--bearer-token-env", `NAME=${variable}`)
      : forNoOrigin(targets, "--bearer-token-env", scope),
    () => ({
      scope,
      value: Redacted.make(token)
    })
  )
}

/** What is sent to one source. */
export const of = (
  target: Target,
  allHeaders: ReadonlyArray<Scoped<readonly [name: string, value: string]>>,
  allTokens: ReadonlyArray<Scoped<Redacted.Redacted>>
): Either.Either<Credentials, string> => {
  if (originOf(target) === undefined) return Either.right({ headers: {}, bearerToken: undefined })
  const headers = own(target, allHeaders)
  const tokens = own(target, allTokens)
  const names = headers.map(([name]) => name.toLowerCase())
  const twice = names.find((name, index) => names.indexOf(name) < index)
  if (twice !== undefined) return Either.left(`the header ${twice} is given twice for one source; keep one of them`)
  if (tokens.length > 1) return Either.left("two bearer tokens are given for one source; keep one of them")
  if (tokens.length > 0 && names.includes("authorization")) {
    return Either.left("--bearer-token-env and an Authorization header are given for one source; keep one of them")
  }
  const isAuthorized = tokens.length > 0 || names.includes("authorization")
  if (target.kind === "ws" && target.url.username + target.url.password !== "" && isAuthorized) {
    return Either.left("a ws:// address has a user, and a token or Authorization header is given too; keep one of them")
  }
  if (target.kind === "objects" && hasUser(target) && isAuthorized) {
    return Either.left(
      "a dav:// address has a user, and a token or Authorization header is given too; keep one of them"
    )
  }
  return Either.right({
    headers: Object.fromEntries(headers.map(([name, value]) => [name, Redacted.make(value)])),
    bearerToken: tokens[0]
  })
}
