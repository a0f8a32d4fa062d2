/**
 * A source of one's own: an API that lists users page by page, as a service that a program names and a layer provides.
 */
import { Console, Context, Effect, Fiber, Layer, Schema } from "effect"
import { Source, Watcher } from "effect-periscope"

class User extends Schema.Class<User>("User")({ id: Schema.String, name: Schema.String, revision: Schema.Number }) {}

/** The port to the API. */
class UserApi extends Context.Tag("app/UserApi")<
  UserApi,
  { readonly page: (token: number | undefined) => Effect.Effect<{ items: ReadonlyArray<User>; next?: number }> }
>() {}

class Users extends Source.Tag("app/Users")<Users, User, Source.ListingError>() {}

const usersLayer: Layer.Layer<Users, never, UserApi> = Source.layer(
  Users,
  Source.fromListing({
    name: "users",
    item: User,
    list: (token: number | undefined) => Effect.flatMap(UserApi, (api) => api.page(token)),
    key: (user) => user.id,
    version: (user) => String(user.revision)
  })
)

const users = [new User({ id: "1", name: "Ada", revision: 1 }), new User({ id: "2", name: "Grace", revision: 1 })]

const userApiMemory = Layer.succeed(UserApi, {
  page: (token = 0) =>
    Effect.sync(() => {
      const items = users.slice(token, token + 1)
      return token + 1 < users.length ? { items, next: token + 1 } : { items }
    })
})

const program = Effect.gen(function* () {
  const fiber = yield* Watcher.runForEach(
    Users,
    (change) => Console.log(change._tag, change.key, change._tag === "Removed" ? "" : change.value.name),
    { interval: "50 millis" }
  ).pipe(Effect.fork)
  yield* Effect.sleep("100 millis")
  users[1] = new User({ id: "2", name: "Grace Hopper", revision: 2 })
  yield* Effect.sleep("100 millis")
  users.push(new User({ id: "3", name: "Barbara", revision: 1 }))
  yield* Effect.sleep("100 millis")
  users.splice(0, 1)
  yield* Effect.sleep("200 millis")
  yield* Fiber.interrupt(fiber)
})

await Effect.runPromise(program.pipe(Effect.provide(usersLayer.pipe(Layer.provide(userApiMemory)))))
