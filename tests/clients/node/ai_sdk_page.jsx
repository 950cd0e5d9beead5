// A page with a chat, as an app would write it: useChat, messages kept in the browser, resumed when it is loaded.
// The query names the chat and the agent: ?chat=ID&agent=ID.
import { useChat } from '@ai-sdk/react'
import { DefaultChatTransport } from 'ai'
import { useEffect, useState } from 'react'
import { createRoot } from 'react-dom/client'

const query = new URLSearchParams(location.search)
const id = query.get('chat')
const kept = JSON.parse(localStorage.getItem(id) ?? '[]')
const transport = new DefaultChatTransport({ api: `/v1/ai-sdk/${query.get('agent')}` })

const text = (message) => message.parts.map((part) => (part.type === 'text' ? part.text : '')).join('')

function Page() {
  const { messages, sendMessage, status, error } = useChat({ id, messages: kept, transport, resume: true })
  const [draft, setDraft] = useState('')
  useEffect(() => localStorage.setItem(id, JSON.stringify(messages)), [messages])

  function submit(event) {
    event.preventDefault()
    sendMessage({ text: draft })
    setDraft('')
  }

  return (
    <main>
      <h1>{query.get('agent')}</h1>
      <ol>
        {messages.map((message) => (
          <li key={message.id} data-role={message.role}>{text(message)}</li>
        ))}
      </ol>
      <form onSubmit={submit}>
        <input value={draft} onChange={(event) => setDraft(event.target.value)} />
        <button>Send</button>
      </form>
      <output>{status}</output>
      {error && <p role="alert">{error.message}</p>}
    </main>
  )
}

createRoot(document.getElementById('root')).render(<Page />)
