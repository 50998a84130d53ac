"""Elicit statements: what the other side of a decomposed conversation says to get one piece of a step.

Agent-FLAN section 3.1 names them but does not publish them; these are the project's own. They are many and of several
registers (short, polite, specific), so that no single wording becomes a protocol of its own, and none of them holds a
protocol word. ``{tool}`` stands for the name of the tool that a statement speaks of.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

ASK_FIRST_THOUGHT = (
    "How would you go about this?",
    "What is needed here?",
    "Where do you start?",
    "What is your plan?",
    "Think it over first.",
    "First, what is this about?",
    "Before doing anything: what does this take?",
    "Tell me how you see it.",
    "What should happen first?",
    "Take a moment and say what you have in mind.",
    "What do you need to find out?",
    "Describe your approach in a sentence or two.",
    "What comes to mind?",
    "How do you want to tackle it?",
    "Please explain your reasoning before you act.",
    "What is the sensible first step?",
    "Say briefly what you intend.",
    "What would solve this?",
    "Could you outline what you would do?",
    "Reason about it for a moment.",
)
"""Beside the task, where a thought follows."""

ASK_THOUGHT = (
    "What do you make of it?",
    "What does that tell you?",
    "What follows from this?",
    "How do you go on?",
    "What now?",
    "Your thoughts?",
    "Where does that leave you?",
    "Does this help?",
    "What is still open?",
    "How does that change the picture?",
    "What did you learn from it?",
    "What would be the next sensible step?",
    "Please think about what came back.",
    "Is that what you expected?",
    "And now?",
    "Tell me how you read this.",
    "What do you conclude?",
    "Does that settle it, or is more needed?",
    "Go on, what is on your mind?",
    "How do you judge this?",
    "What matters in there?",
    "Explain what this means for the task.",
)
"""After a result, where a thought follows."""

ASK_TOOL = (
    "Which tool do you want to use?",
    "What tool fits this step?",
    "Name the tool for that.",
    "Which of your tools will help here?",
    "Which tool comes next?",
    "What do you want to call?",
    "Pick a tool.",
    "Which one of the tools is right for this?",
    "Please tell me the tool to use.",
    "What would you like to run?",
    "Which tool should I call for you?",
    "Give me the name of the tool.",
    "With which tool?",
    "What is the name of the tool you need?",
    "Choose from the tools you have.",
    "Which tool gets this done?",
    "Could you name the tool you have in mind?",
    "Tool?",
    "So which tool is it going to be?",
    "Just the name of the tool, please.",
    "Of the tools listed, which do you choose?",
    "What should be called for this?",
)
ASK_NEXT_TOOL = (
    "Which other tool do you want to use now?",
    "And which tool besides that one?",
    "What else to call?",
    "Which tool do you need as well?",
    "Name the other tool.",
    "And the next one?",
    "Anything else to call alongside it?",
    "What other call belongs to this step?",
    "Which tool goes together with it?",
    "And then, which tool?",
    "Please name the second tool.",
    "What else should run at the same time?",
    "Which further tool?",
    "What is the other tool called?",
    "There is one more: which tool?",
    "Which tool should be called in addition?",
    "And also?",
    "Next tool, please.",
    "What more do you want called?",
    "Tell me the other one, too.",
)
"""Within one step that calls several tools."""

ASK_ARGUMENTS = (
    "What arguments does it get?",
    "With which values?",
    "Give its arguments, one per line.",
    "What should be passed to it?",
    "Which values go in?",
    "List the arguments for it.",
    "What input does {tool} need here?",
    "Please give me the values for {tool}.",
    "What do I fill in?",
    "How should {tool} be called?",
    "What goes into {tool}?",
    "Name each parameter with its value.",
    "And the parameters?",
    "Which parameters, with what values?",
    "Tell me what to hand over to it.",
    "Fill in its parameters, please.",
    "What exactly should {tool} be given?",
    "And the details for the call?",
    "Which arguments belong in there?",
    "Spell out its arguments for me.",
    "What are the values this time?",
    "Parameters and values, please.",
)
ASK_ANSWER = (
    "So what is the answer?",
    "Please answer the request now.",
    "What do you tell the user?",
    "Give your reply to the user.",
    "Put the answer in words.",
    "Then tell me the result.",
    "What is your reply?",
    "Now answer, please.",
    "How do you answer?",
    "Write the reply.",
    "Sum it up for the person who asked.",
    "What should I pass on?",
    "Let me have your answer.",
    "Finish with your reply.",
    "What do you say to that?",
    "Then go ahead and reply.",
    "And in plain words?",
    "Please respond to the original question.",
    "What is there to report?",
    "Then what is your response?",
    "Say it to the user.",
    "Reply now.",
)
RESULT = (
    "The result: {content}",
    "It returned: {content}",
    "That gave: {content}",
    "Here is what came back: {content}",
    "Result: {content}",
    "{tool} returned this: {content}",
    "{tool} came back with: {content}",
    "This is what {tool} gave: {content}",
    "Done. It says: {content}",
    "The call returned {content}",
    "I ran it and got: {content}",
    "What it returned:\n{content}",
    "Output of {tool}:\n{content}",
    "Here you are:\n{content}",
    "{tool} answered:\n{content}",
    "That call gave the following.\n{content}",
    "Response: {content}",
    "I have it: {content}",
    "Back from {tool}: {content}",
    "After the call, this: {content}",
    "The tool says: {content}",
    "Okay, it gave me this: {content}",
)
"""How a tool's result is passed on; ``{content}`` is the result, word for word."""

ASK_STEP = (
    "Think it through, then act.",
    "Say what you think and take the next step.",
    "Reason first, then go ahead.",
    "Explain yourself as you go.",
    "Please think aloud and continue.",
    "What do you think, and what do you do?",
    "Tell me your reasoning along with your next move.",
    "Go ahead, and say why.",
    "Your reasoning and the step that follows from it, please.",
    "Work on it in one go: think, then do.",
    "Think step by step.",
    "Carry on, and explain your choice.",
    "How do you proceed, and why?",
    "Give me the thinking and the step together.",
    "Please continue with a short explanation.",
    "Talk me through your next step.",
    "Keep going, and let me follow your thinking.",
    "Next step, with your reasons.",
    "Consider this and move on.",
    "Do what is needed and tell me why.",
)
"""Asks for a whole step at once (chain of thought). None says whether a tool is called, for that is to be learnt."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Draws the statements of one conversation from one generator."""

    rng: random.Random

    def ask(self, statements: tuple[str, ...], tool: str = "") -> str:
        """One of the statements."""
        return self.rng.choice(statements).replace("{tool}", tool)

    def sometimes(self, share: float, statements: tuple[str, ...]) -> str:
        """One of the statements in ``share`` of the cases, else nothing."""
        return self.ask(statements) if self.rng.random() < share else ""

    def pass_on(self, content: str, tool: str) -> str:
        """A tool's result as the other side tells it. ``tool`` is the name of the tool that gave it."""
        before, _, after = self.rng.choice(RESULT).partition("{content}")
        # Chat templates may strip a turn, so that an empty result must not leave a blank at its end.
        return f"{before.replace('{tool}', tool)}{content}{after}".rstrip()
