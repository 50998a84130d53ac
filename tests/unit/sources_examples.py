"""Tiny records in each published format, written for the tests, with what they must become."""

from __future__ import annotations

import json
from typing import Any

WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FINISH = {"name": "Finish", "description": "End.", "parameters": {"type": "object", "properties": {}, "required": []}}
CALL = {"name": "get_weather", "arguments": json.dumps({"city": "Rome"})}


def toolbench_system(tools: list[dict[str, Any]]) -> str:
    return f"You are AutoGPT.\nSpecifically, you have access to the following APIs: {tools!r}"


def react(thought: str, action: str, arguments: Any) -> str:
    return f"\nThought: {thought}\nAction: {action}\nAction Input: {json.dumps(arguments)}"


V0_PROMPT = (
    "Answer the following questions as best you can. Specifically, you have access to the following APIs:\n\n"
    "get_weather: Weather of a city. Your input should be a json (args json schema): "
    '{{"city" : string, }} The Action to trigger this API should be get_weather.\n\n'
    "Use the following format:\n\nQuestion: the input question you must answer\nThought: think\n\nBegin!\n"
)

OS_INSTRUCTION = (
    "You are an assistant that will act like a person, I'will play the role of linux(ubuntu) operating system. "
    "Take bash, finish or answer.\n\nNow, my problem is:\n\nhow many files are in /etc?"
)
DB_INSTRUCTION = "I will ask you a question, then you should help me operate a MySQL database with SQL to answer."
ALFWORLD_INSTRUCTION = "Interact with a household to solve a task. THOUGHT or ACTION."
WEBSHOP_INSTRUCTION = "You are web shopping.\nThought:\nI think ...\n\nAction:\nclick[something]"
KG_INSTRUCTION = "You are an agent that answers questions based on the knowledge stored in a knowledge base."
MIND2WEB_QUESTION = (
    "<html> ... </html>\n\nBased on the HTML webpage above, try to complete the following task:\n"
    "Task: Log in\nA. None of the above\nB. <button> Log in </button>"
)


def native(*turns: tuple[str, bool | None]) -> list[dict[str, Any]]:
    return [
        {"from": "human" if index % 2 == 0 else "gpt", "loss": loss, "value": text}
        for index, (text, loss) in enumerate(turns)
    ]


def renamed(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(texts)]


RECORDS: dict[str, list[dict[str, Any]]] = {
    "agentinstruct": [
        {
            "id": "os_1",
            "conversations": native(
                (OS_INSTRUCTION, None),
                ("Think: list.\n\nAct: bash\n\n```bash\nls /etc\n```", False),
                ("The output of the OS:\na b", None),
                ("Think: two.\n\nAct: answer(2)", False),
                ("Now, I will start a new problem in a new OS. My problem is:\n\nMake a folder x.", None),
                ("Think: use mkdir.\n\nAct: bash\n\n```bash\nmkdir x\n```", True),
                ("The output of the OS:\n", None),
                ("Think: It is made.\n\nAct: finish", True),
            ),
        },
        {
            "id": "os_2",
            "conversations": renamed(
                OS_INSTRUCTION,
                "Think: list.\n\nAct: bash\n\n```bash\nls /etc\n```",
                "The output of the OS:\na b",
                "Think: two.\n\nAct: answer(2)",
                "Now, I will start a new problem in a new OS. My problem is:\n\nHow many processes run?",
                "Think: count.\n\nAct: bash\n\n```bash\nps | wc -l\n```",
                "The output of the OS:\n7",
                "Think: Seven.\n\nAct: answer(7 (seven))",
            ),
        },
        {
            "id": "db_1",
            "conversations": native(
                (DB_INSTRUCTION, None),
                ("Ok.", False),
                ("How many rows? The table is t.", None),
                ("Count them.\nAction: Operation\n```sql\nSELECT COUNT(*) FROM t\n```", True),
                ("[(3,)]", None),
                ('Three rows.\nAction: Answer\nFinal Answer: ["3"]', True),
            ),
        },
        {
            "id": "alfworld_1",
            "conversations": native(
                (ALFWORLD_INSTRUCTION, None),
                ("OK. I'll follow your instructions and try my best to solve the task.", False),
                ("Here is your task. Put a mug on the desk 1.", None),
                ("THOUGHT: The mug may be on the shelf.\nACTION: take mug 1 from shelf 1", True),
                ("You pick up the mug 1.", None),
                ("ACTION: put mug 1 in/on desk 1", True),
                ("Task done.", None),
            ),
        },
        {
            "id": "webshop_1",
            "conversations": renamed(
                WEBSHOP_INSTRUCTION,
                "Ok.",
                "WebShop [SEP] Instruction: [SEP] a red cup [SEP] Search",
                "Thought:\nI should search.\n\nAction:\nsearch[red cup]",
                "Page 1 [SEP] B01",
                "Thought:\nThis one.\n\nAction:\nclick[B01]",
            ),
        },
        {
            "id": "kg_1",
            "conversations": renamed(
                KG_INSTRUCTION,
                "I've understood your instruction, start please.",
                "Question: demonstration?\nEntities: [X]",
                "Thought: a.\nAction: get_relations(X)",
                "Observation: [r]",
                "Thought: b.\nFinal Answer: #0",
                "A new question: who made it?\nEntities: [Engine, inc. (A)]",
                "Thought: see relations.\nAction: get_neighbors(Engine, inc. (A), made.by)",
                "Observation: variable #0",
                "Thought: both.\nAction: intersection(#0, #1)",
                "Observation: variable #2",
                "Thought: found.\nFinal Answer: #2",
            ),
        },
        {
            "id": "mind2web_1",
            "conversations": renamed(MIND2WEB_QUESTION, "Thought: log in.\nAnswer: B.\nAction: TYPE\nValue: me"),
        },
    ],
    "agenttraj": [
        {
            "item_id": "babyai_1",
            "conversations": native(
                ("You are an exploration master that wants to finish every goal.", None),
                ("OK. I'll follow your instructions and try my best to solve the task.", False),
                ("Your goal: pick up the box", None),
                ("Thought:\nIt is near.\n\nAction:\npickup box 1", True),
            ),
        },
        {
            "item_id": "movie_1",
            "conversations": native(
                (
                    "You are an autonomous intelligent agent. You can use actions to help people solve problems.\n"
                    "Name: get_search_movie(movie_name)\nDescription: Search.\nParameters:\n"
                    "- movie_name (Type: string): The name.\n- kind (Type: List, Enum: [a, b])\n"
                    "Returns:\n- id : The ID.\n\n"
                    "Name: finish(answer)\nDescription: End\nParameters:\n- answer (Type: ['string', 'number']): It\n",
                    None,
                ),
                ("Ok.", False),
                ("You should perform actions to accomplish the goal: Who? \nGive me one action.", None),
                ('Thought: Search.\n\nAction: get_search_movie with Action Input: {"movie_name": "Up"}', True),
                ("Observation: [1]\nGive me one action.", None),
                ('Thought: Done.\n\nAction: finish with Action Input: {"answer": 7}', True),
            ),
        },
    ],
    "toolbench": [
        {
            "id": "Step 3: weather",
            "conversations": [
                {"from": "system", "value": toolbench_system([WEATHER, FINISH])},
                {"from": "user", "value": "\nWeather in Rome?\nBegin!\n"},
                {"from": "assistant", "value": react("Look it up.", "get_weather", {"city": "Rome"})},
                {"from": "function", "value": '{"error": "", "response": "sunny"}'},
                {
                    "from": "assistant",
                    "value": react("Done.", "Finish", {"return_type": "give_answer", "final_answer": "Sunny."}),
                },
            ],
        },
        {
            "win": True,
            "tree": {},
            "answer_generation": {
                "valid_data": True,
                "query": "Weather in Rome?",
                "function": [WEATHER, FINISH],
                "train_messages": [
                    [{"role": "user", "content": "not the last chain"}],
                    [
                        {"role": "system", "content": "You are AutoGPT."},
                        {"role": "user", "content": "\nWeather in Rome?\nBegin!\n"},
                        {"role": "assistant", "content": "Thought: Look it up.", "function_call": CALL},
                        {"role": "function", "name": "get_weather", "content": "sunny"},
                        {"role": "assistant", "content": "Now I can answer."},
                        {
                            "role": "assistant",
                            "content": None,
                            "function_call": {
                                "name": "Finish",
                                "arguments": '{"return_type": "give_answer", "final_answer": "Sunny."}',
                            },
                        },
                    ],
                ],
            },
        },
        {
            "prompt": V0_PROMPT,
            "query": "Weather in Rome?\n",
            "chains": [
                {
                    "thought": "Look it up.",
                    "action": "get_weather",
                    "action_input": '{"city": "Rome"}',
                    "observation": "sunny",
                }
            ],
            "answer": "Sunny.",
            "log": "Thought: I know.\nFinal Answer: Sunny.",
        },
        {
            "prompt": V0_PROMPT,
            "query": "Weather in Rome?\n",
            "thought": "Look it up.",
            "action": "get_weather",
            "action_input": '{"city": "Rome"}',
            "observation": "sunny",
            "answer": "Sunny.",
            "log": "Thought: Look it up.\nAction: get_weather\nThought: I know.\nFinal Answer: Sunny.",
        },
        {
            "id": "STEP 1: Weather in Rome?",
            "conversations": [
                {
                    "from": "human",
                    "value": f"{V0_PROMPT}Question: Weather in Rome?\n\n Agent scratchpad (history actions):\n "
                    'Thought: Look it up.\nAction: get_weather\nAction Input: {"city": "Rome"}\nObservation: sunny\n',
                },
                {"from": "gpt", "value": "Thought: I know.\nFinal Answer: Sunny."},
            ],
        },
    ],
    "agentflan": [
        {
            "id": "af_1",
            "conversation": [
                {"role": "user", "content": DB_INSTRUCTION, "type": "x"},
                {"role": "assistant", "content": "Ok.", "loss": False},
                {"role": "user", "content": "How many rows?"},
                {
                    "role": "assistant",
                    "content": "Count.\nAction: Operation\n```sql\nSELECT COUNT(*) FROM t\n```",
                    "loss": True,
                },
            ],
        },
        {
            "id": "af_2",
            "conversation": [
                {"role": "system", "content": toolbench_system([WEATHER, FINISH])},
                {"role": "user", "content": "Weather in Rome?"},
                {"role": "assistant", "content": react("Look it up.", "get_weather", {"city": "Rome"})},
                {"role": "user", "content": "sunny"},
                {
                    "role": "assistant",
                    "content": react("Done.", "Finish", {"return_type": "give_answer", "final_answer": "Sunny."}),
                },
            ],
        },
    ],
    "sharegpt": [
        {
            "tools": json.dumps([WEATHER]),
            "conversations": [
                {"from": "gpt", "value": "The end of something else."},
                {"from": "human", "value": "Hello."},
                {"from": "human", "value": "Weather in Rome?"},
                {"from": "function_call", "value": '{"name": "get_weather", "arguments": {"city": "Rome"}}'},
                {"from": "observation", "value": "sunny"},
                {"from": "gpt", "value": "Sunny."},
                {"from": "human", "value": "Thanks."},
            ],
        },
        {"id": 5, "conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]},
    ],
    "openai_messages": [
        {
            "id": "m1",
            "tools": [{"type": "function", "function": WEATHER}],
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Weather in Rome?"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": "Look it up.",
                    "tool_calls": [{"id": "1", "type": "function", "function": CALL}],
                },
                {"role": "tool", "tool_call_id": "1", "content": "sunny"},
                {"role": "assistant", "content": "Sunny."},
            ],
        },
        {
            "id": "m2",
            "source": "sgd",
            "tools": [WEATHER],
            "messages": [
                {"role": "user", "content": "Weather in Rome?"},
                {
                    "role": "assistant",
                    "content": '{"name": "get_weather", "arguments": {"city": "Rome"}}',
                    "loss": True,
                },
                {"role": "function", "content": "sunny"},
                {"role": "assistant", "content": "Sunny.", "loss": False},
            ],
        },
        {
            "id": "m3",
            "tools": [WEATHER],
            "messages": [
                {"role": "user", "content": "Weather in Rome?"},
                {"role": "assistant", "content": react("Look it up.", "get_weather", {"city": "Rome"})},
                {"role": "user", "content": "Observation: sunny"},
                {"role": "assistant", "content": "Thought: Good.\nFinal Answer: Sunny."},
            ],
        },
        {
            "id": "ic_sql_1",
            "source": "intercode",
            "messages": [
                {"role": "user", "content": "How many?"},
                {"role": "assistant", "content": "Thought: Count.\nAction: execute[SELECT COUNT(*) FROM t]"},
                {"role": "user", "content": "Observation: [(3,)]"},
                {"role": "assistant", "content": "Thought: It is right.\nAction: submit"},
                {"role": "user", "content": "Observation: [(3,)]"},
            ],
        },
        {
            "id": "k1",
            "source": "knowagent_alfworld",
            "messages": [
                {"role": "user", "content": "Put the mug away."},
                {"role": "assistant", "content": "Think: plan.\nActionPath: Start\nThink: go.\ngo to shelf 1"},
            ],
        },
        {
            "id": "c1",
            "messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}],
        },
    ],
    "fireact": [
        {
            "messages": [
                {"role": "user", "content": "Question: who?"},
                {"role": "assistant", "content": "Thought: search.\nAction: search[who]"},
                {"role": "user", "content": "Observation: he"},
                {"role": "assistant", "content": "Thought: he.\nAction: finish[He]"},
            ]
        },
        {
            "instruction": "Question: who?",
            "input": "",
            "output": "A. he\nB. she\nThought: search.\nAction: search[who]\nObservation: he\nThought: he.\n"
            "Action: finish[A]\nObservation: Episode finished, reward = 1\n",
        },
    ],
    "intercode": [
        {
            "id": "ic_bash_1",
            "messages": [
                {"role": "user", "content": "How many files?"},
                {"role": "assistant", "content": "Action: ls | wc -l"},
                {"role": "user", "content": "Observation: 3"},
            ],
        }
    ],
    "knowagent": [
        {
            "id": "k1",
            "messages": [
                {"role": "user", "content": "Put the mug away."},
                {"role": "assistant", "content": "Think: plan.\nActionPath: Start\nThink: go.\ngo to shelf 1"},
                {"role": "user", "content": "You see nothing."},
                {"role": "assistant", "content": "take mug 1 from shelf 1"},
            ],
        }
    ],
    "think_tags": [
        {
            "instruction": "You are a helpful assistant.\n\n**Available Tools**\nIn your response, you can use:\n"
            "1. Name: get_weather\nDescription: Weather of a city.\n"
            'Parameters: {"city": {"description": "Where.", "type": "str", "default": ""}, '
            '"days": {"description": "How many.", "type": "int, optional", "default": ""}, '
            '"unit": {"description": "Which.", "type": "string", "default": "C"}, '
            '"hours": {"description": "When.", "type": "List[int]", "default": ""}}\n'
            "2. Name: Say it\nDescription: Say.\nParameters: {}\n\n**Steps for Each Turn**\n1. Think",
            "input": "**Dialogue Records History**\n<user> Weather in <b>Rome</b>? </user>\n\n"
            "<think> I should use the appropriate tool with proper parameters to respond to the user's need. </think>\n"
            '<tool_call>\n{"name": "get_weather", "parameters": {"city": "Rome"}}\n</tool_call>\n'
            "<obs> sunny </obs>\n\n<think> Mine. </think>\n<response> Sunny. </response>\n\n<user> And Oslo? </user>",
            "output": "<think> Look it up with <tool_call> again. </think>\n<tool_call>\n"
            '{"name": "get_weather", "parameters": {"city": "Oslo"}}\n{"name": "Say it", "parameters": {}}\n'
            "</tool_call>\n<response> Wait. </response>",
        },
        {
            "id": "h1",
            "conversations": [
                {
                    "from": "system",
                    "value": "Be brief.\n\n# Tools\n\nFunction signatures are within <tools></tools> XML tags:\n"
                    f"<tools>\n{json.dumps({'type': 'function', 'function': WEATHER})}\n</tools>\n\n"
                    "For each call return a JSON object within <tool_call></tool_call> XML tags.",
                },
                {"from": "human", "value": "Weather in Rome and Oslo?"},
                {
                    "from": "gpt",
                    "value": "<think>\nLook them up.\n</think>\n\nOne moment.\n"
                    "<tool_call>\n{'arguments': {'city': 'Rome'}, 'name': 'get_weather'}\n</tool_call>\n"
                    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
                },
                {
                    "from": "tool",
                    "value": "<tool_response>\nsunny\n</tool_response>\n<tool_response>\nsnow\n</tool_response>",
                },
                {"from": "gpt", "value": "Sun and snow."},
            ],
        },
    ],
    "toolverifier": [
        {
            "text": "User: Weather in Rome?\n###\nTool Choices: Weather = The Weather tool gets the weather.\n"
            "News = The News tool gets news.\n###\nThought: It tells the weather.\n\nNot the news.\n"
            'Act: CALLTOOL["Weather"]'
        }
    ],
    "toolalpaca": [
        {
            "Name": "Weather",
            "Function_Description": {
                "getWeather": "Weather of a city.\n"
                'Parameters: {"city": "Required. string. The city.", "unit": "string. One of: [C, F]. The unit.", '
                '"hours": "Array[integer]. When, e.g. "noon"."}\n'
                "Output: Successful response.\n - Format: application/json\n - Structure: Object{sky}",
                "components": "",
            },
            "Instances": [
                {
                    "input": "Weather here?\nHint: ask where.",
                    "output": "It is sunny.",
                    "Final Thought": "Thought: I know.",
                    "intermediate_steps": [
                        [
                            [
                                "getDetails",
                                '{"Question": "Where are you?"}',
                                " A city is missing.\nAction: getDetails\nAction Input: {}",
                            ],
                            "In Rome.",
                        ],
                        [
                            [
                                "getWeather",
                                '{"city": "Rome"}',
                                " Look it up.\nAction: getWeather\nAction Input: {}",
                            ],
                            "Status Code: 200. Response: sunny",
                        ],
                    ],
                }
            ],
        }
    ],
    "alpaca": [
        {
            "system": "Be brief.",
            "instruction": "Translate.",
            "input": "casa",
            "output": "house",
            "history": [["Hi.", "Hello."]],
        }
    ],
}
