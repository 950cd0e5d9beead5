// Talks to an edge with OpenAI's SDK and its defaults: openai.mjs BASE_URL. Prints what each scenario saw, one a line.
import OpenAI from 'openai'

const [baseURL] = process.argv.slice(2)
const client = new OpenAI({ baseURL, apiKey: 'none', timeout: 30_000 })
const WORDS = 'one two three four'
const parameters = { type: 'object', properties: { text: { type: 'string' } } }
const chatTool = { type: 'function', function: { name: 'look', description: 'Looks.', parameters } }
const tool = { type: 'function', name: 'look', description: 'Looks.', parameters, strict: false }
const chat = (model, more = {}) => ({ model, messages: [{ role: 'user', content: WORDS }], ...more })

async function all(stream) {
  const events = []
  for await (const event of stream) events.push(event)
  return events
}

async function failure(attempt) {
  try {
    await attempt()
    return null
  } catch (error) {
    const { name } = error.constructor
    return { name, status: error.status, code: error.code, type: error.type, param: error.param, message: error.message }
  }
}

const scenarios = {
  async chat_blocking() {
    return await client.chat.completions.create(chat('echo'))
  },
  async chat_stream() {
    return await all(await client.chat.completions.create(chat('echo', { stream: true })))
  },
  async chat_usage() {
    return await all(await client.chat.completions.create(
      chat('echo', { stream: true, stream_options: { include_usage: true } }),
    ))
  },
  async chat_helper() {
    const stream = client.chat.completions.stream(chat('think'))
    return await stream.finalChatCompletion()
  },
  async chat_tools() {
    const first = await client.chat.completions.stream(chat('ctool', { tools: [chatTool] })).finalChatCompletion()
    const { message } = first.choices[0]
    const [call] = message.tool_calls
    const messages = [
      ...chat('ctool').messages, message, { role: 'tool', tool_call_id: call.id, content: '{"sky": "marbled"}' },
    ]
    const second = await client.chat.completions.create({ model: 'ctool', messages, tools: [chatTool] })
    return { first: first.choices[0], second: second.choices[0] }
  },
  async chat_error() {
    return {
      blocking: await failure(() => client.chat.completions.create(chat('error'))),
      stream: await failure(async () => all(await client.chat.completions.create(chat('error', { stream: true })))),
      model: await failure(() => client.chat.completions.create(chat('nobody'))),
      request: await failure(() => client.chat.completions.create(chat('echo', { n: 2 }))),
    }
  },
  async chat_cancel() {
    const { data, response } = await client.chat.completions.create(chat('slow', { stream: true })).withResponse()
    for await (const chunk of data) if (chunk.choices[0].delta.content) break
    return { run: response.headers.get('x-run-id') }
  },
  async models() {
    return (await all(client.models.list())).map((model) => model.id)
  },
  async response_blocking() {
    const made = await client.responses.create({ model: 'echo', input: WORDS, instructions: 'Be brief.' })
    return { made, shown: await client.responses.retrieve(made.id) }
  },
  async response_stream() {
    return await all(await client.responses.create({ model: 'echo', input: WORDS, stream: true }))
  },
  async response_helper() {
    const stream = client.responses.stream({ model: 'tool', input: 'Bern' })
    const kinds = []
    stream.on('event', (event) => kinds.push(event.type))
    return { response: await stream.finalResponse(), kinds }
  },
  async response_reasoning() {
    return await client.responses.stream({ model: 'think', input: WORDS }).finalResponse()
  },
  async response_tools() {
    const first = await client.responses.stream({ model: 'ctool', input: WORDS, tools: [tool] }).finalResponse()
    const call = first.output.find((item) => item.type === 'function_call')
    const input = [{ type: 'function_call_output', call_id: call.call_id, output: 'marbled' }]
    const second = await client.responses.create({
      model: 'ctool', previous_response_id: first.id, input, tools: [tool],
    })
    return { first, second }
  },
  async response_error() {
    const events = await all(await client.responses.create({ model: 'error', input: WORDS, stream: true }))
    return {
      last: events.at(-1),
      helper: await client.responses.stream({ model: 'error', input: WORDS }).finalResponse(),
      model: await failure(() => client.responses.create({ model: 'nobody', input: WORDS })),
      request: await failure(() => client.responses.create({ model: 'echo', input: [{ type: 'nothing' }] })),
      unknown: await failure(() => client.responses.retrieve('resp_01m7wnske9ampep9w4ap2y51e6')),
    }
  },
  async response_resume() {
    const head = []
    const stream = await client.responses.create({ model: 'slow', input: WORDS, stream: true })
    for await (const event of stream) {
      head.push(event)
      if (event.sequence_number === 8) break // which aborts the request
    }
    const { id } = head[0].response
    const tail = await all(await client.responses.retrieve(id, { stream: true, starting_after: 8 }))
    const replay = client.responses.stream({ response_id: id, starting_after: 8 })
    const numbers = (await all(replay)).map((event) => event.sequence_number)
    return { head, tail, numbers, response: await replay.finalResponse() }
  },
  async response_background() {
    let response = await client.responses.create({ model: 'slow', input: WORDS, background: true })
    const first = response.status
    const events = await all(await client.responses.retrieve(response.id, { stream: true }))
    response = await client.responses.retrieve(response.id)
    return { first, count: events.length, response }
  },
  async response_cancel() {
    const { id } = await client.responses.create({ model: 'slow', input: WORDS, background: true })
    const stream = await client.responses.retrieve(id, { stream: true })
    const cancelled = await client.responses.cancel(id)
    return { cancelled, last: (await all(stream)).at(-1), again: await client.responses.cancel(id) }
  },
  async response_delete() {
    const { id } = await client.responses.create({ model: 'echo', input: WORDS })
    return {
      refused: await failure(() => client.responses.delete(id)),
      after: await failure(() => client.responses.retrieve(id)),
    }
  },
  async conversation() {
    const { id } = await client.conversations.create({ metadata: { topic: 'water' } })
    for (const input of ['one', 'two']) await client.responses.create({ model: 'echo', input, conversation: id })
    const items = await all(client.conversations.items.list(id, { order: 'asc', limit: 3 }))
    return { shown: await client.conversations.retrieve(id), items }
  },
}

for (const [name, scenario] of Object.entries(scenarios)) {
  console.log(JSON.stringify({ name, seen: await scenario() }))
}
