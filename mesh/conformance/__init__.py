"""`alphamesh conformance`: whether an agent, in any language, keeps the contract of AgentService."""
