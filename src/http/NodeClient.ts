/**
 * The recommended `HttpClient` for watching on Node: undici with connections that outlive the pause between two polls.
 *
 * Sockets are bounded per origin, shared by all sources of the layer, and closed with its scope. It needs the optional peer
 * `@effect/platform-node`.
 *
 * @since 0.1.0
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { OriginPools } from "./originPools.js"
import * as transport from "./transport.js"
import * as undiciTransport from "./undiciTransport.js"

type Pem = string | Uint8Array | Redacted.Redacted

/**
 * What {@link layer} takes.
 *
 * - `connections`: sockets per origin; further requests wait for one [16].
 * - `keepAlive`: how long an idle socket is kept, unless the server says otherwise [1 minute]. Longer than the interval
 *   between polls, else each poll connects anew.
 * - `connectTimeout`: bound of one connection attempt [10 seconds].
 * - `ca`: certificates (PEM) to trust instead of those that Node trusts.
 * - `cert`, `key`, `passphrase`: the client's own certificate and key (PEM), for mutual TLS.
 * - `servername`: the name that the server's certificate must have [the host].
 * - `proxy`: `"environment"` takes HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in lower case first, from the configuration
 *   [default]; an address goes there always; `"none"` goes direct.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly connections?: number | undefined
  readonly keepAlive?: Duration.DurationInput | undefined
  readonly connectTimeout?: Duration.DurationInput | undefined
  readonly ca?: Pem | ReadonlyArray<Pem> | undefined
  readonly cert?: Pem | undefined
  readonly key?: Pem | undefined
  readonly passphrase?: Redacted.Redacted | undefined
  readonly servername?: string | undefined
  readonly proxy?: "environment" | "none" | URL | Redacted.Redacted | undefined
}

/**
 * Provides the client.
 *
 * **Details** undici spends far less processor time on a poll than `node:http` or `fetch`. Its default agent drops idle
 * sockets after 4 seconds, so that a watch with a longer interval connects for each poll; this one keeps them.
 *
 * **Gotchas** Through a proxy it is undici's agent that counts the `connections`: after all of them were lost at once there can
 * be twice as many for a while.
 *
 * **Errors** A number of connections that is not whole or below 1, and a duration that is infinite or not above zero, throw at
 * construction, naming the option and the value.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Watcher } from "effect-periscope"
 * import { HttpSource } from "effect-periscope/http"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 *
 * const program = Watcher.runForEach(
 *   HttpSource.make({ url: "https://config.example.com/flags.json" }),
 *   (change) => Effect.log(change._tag)
 * ).pipe(Effect.provide(NodeClient.layer()))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<HttpClient.HttpClient> => {
  const agentOptions = check(options)
  return Layer.provide(
    client,
    Layer.scoped(
      NodeHttpClient.Dispatcher,
      Effect.acquireRelease(
        Effect.flatMap(proxies(options), (environment) => Effect.sync(() => makeAgent(agentOptions, environment))),
        (agent) => Effect.promise(() => agent.destroy())
      )
    )
  )
}

/** The platform's client; the requests of sources take a shorter way. */
const client: Layer.Layer<HttpClient.HttpClient, never, NodeHttpClient.Dispatcher> = Layer.effect(
  HttpClient.HttpClient,
  Effect.map(Effect.all([HttpClient.HttpClient, NodeHttpClient.Dispatcher]), ([platform, dispatcher]) => {
    transport.offer(platform, undiciTransport.make(dispatcher))
    return platform
  })
).pipe(Layer.provide(NodeHttpClient.layerUndiciWithoutDispatcher))

interface Proxies {
  readonly httpProxy: string
  readonly httpsProxy: string
  readonly noProxy: string
}

const makeAgent = (options: Undici.Agent.Options, { httpProxy, httpsProxy, noProxy }: Proxies): Undici.Dispatcher =>
  httpProxy === "" && httpsProxy === ""
    ? new OriginPools(options)
    : new Undici.EnvHttpProxyAgent({
        ...options,
        requestTls: options.connect as Undici.buildConnector.BuildOptions,
        httpProxy,
        httpsProxy,
        noProxy
      })

const proxies = ({ proxy = "environment" }: Options): Effect.Effect<Proxies> => {
  if (proxy === "environment") {
    return Effect.all({
      httpProxy: variable("HTTP_PROXY"),
      httpsProxy: variable("HTTPS_PROXY"),
      noProxy: variable("NO_PROXY")
    })
  }
  const always = proxy === "none" ? "" : Redacted.isRedacted(proxy) ? Redacted.value(proxy) : proxy.href
  return Effect.succeed({ httpProxy: always, httpsProxy: always, noProxy: "" })
}

const variable = (name: string): Effect.Effect<string> =>
  Config.string(name.toLowerCase()).pipe(
    Config.orElse(() => Config.string(name)),
    Config.withDefault(""),
    Effect.orElseSucceed(() => "")
  )

const check = (options: Options): Undici.Agent.Options => {
  const { connections = 16, keepAlive = "1 minute", connectTimeout = "10 seconds" } = options
  if (!Number.isSafeInteger(connections) || connections < 1) {
    throw new Error(`NodeClient: \`connections\` is ${connections}; it must be a whole number of 1 or more.`)
  }
  const tls = {
    ca: options.ca === undefined ? undefined : [options.ca].flat().map(pem),
    cert: options.cert === undefined ? undefined : pem(options.cert),
    key: options.key === undefined ? undefined : pem(options.key),
    passphrase: options.passphrase === undefined ? undefined : Redacted.value(options.passphrase),
    servername: options.servername
  }
  return {
    connections,
    keepAliveTimeout: millis("keepAlive", keepAlive),
    connect: {
      timeout: millis("connectTimeout", connectTimeout),
      ...Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined))
    }
  }
}

const pem = (value: Pem): string | Buffer =>
  Redacted.isRedacted(value) ? Redacted.value(value) : typeof value === "string" ? value : Buffer.from(value)

const millis = (option: string, input: Duration.DurationInput): number => {
  const duration = Option.getOrElse(Duration.decodeUnknown(input), () => Duration.zero)
  if (Duration.isFinite(duration) && Duration.toMillis(duration) > 0) return Duration.toMillis(duration)
  throw new Error(`NodeClient: \`${option}\` is ${String(input)}; it must be a finite duration above zero.`)
}
