package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
)

// qosRules are the routes of one type of QoS rule.
type qosRules struct {
	srv *server
	typ string
	def *resource.Definition[model.QoSRule]
}

// qosRoutes are the rules of policies, and the types of rules that there are.
func (s *server) qosRoutes() []route {
	routes := []route{
		on("/qos/rule-types", map[string]handler{http.MethodGet: listRuleTypes}),
		on("/qos/rule-types/{}", map[string]handler{http.MethodGet: showRuleType}),
	}
	for _, k := range []struct {
		typ        string
		def, alias *resource.Definition[model.QoSRule]
	}{
		{model.QoSBandwidthLimit, model.BandwidthLimitRules, model.AliasBandwidthLimitRules},
		{model.QoSDSCPMarking, model.DSCPMarkingRules, model.AliasDSCPMarkingRules},
	} {
		of, alias := &qosRules{s, k.typ, k.def}, &qosRules{s, k.typ, k.alias}
		items := func(q *qosRules) map[string]handler {
			return map[string]handler{http.MethodGet: q.show, http.MethodPut: q.update, http.MethodDelete: q.delete}
		}
		routes = append(routes,
			on("/qos/policies/{}/"+k.def.Plural, map[string]handler{http.MethodGet: of.list, http.MethodPost: of.create}),
			on("/qos/policies/{}/"+k.def.Plural+"/{}", items(of)),
			on("/qos/"+strings.ReplaceAll(k.alias.Plural, "_", "-")+"/{}", items(alias)),
		)
	}
	for _, typ := range []string{"minimum_bandwidth", "packet_rate_limit", "minimum_packet_rate"} {
		refuse := func(q *request) error { return s.refuseRule(q, typ) }
		routes = append(routes, on("/qos/policies/{}/"+typ+"_rules", map[string]handler{
			http.MethodGet: func(q *request) error { return s.noRules(q, typ) }, http.MethodPost: refuse}))
	}
	return routes
}

// names cuts what the path names into policy and rule; the alias paths name no policy.
func (k *qosRules) names(q *request) (policy, rule string) {
	if len(q.args) == 1 {
		return "", q.args[0]
	}
	return q.args[0], q.args[1]
}

func (k *qosRules) list(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	lq, err := k.def.ParseQuery(params, k.srv.MaxLimit)
	if err != nil {
		return err
	}
	rows, err := k.srv.Services.QoSRules.QoSRules(q.Context(), q.caller, q.args[0], k.typ)
	if err != nil {
		return err
	}
	if rows, err = cut(k.def, lq, rows); err != nil {
		return err
	}
	return sendPage(q, k.def, k.def.Encoder(lq.Fields, q.operator()), lq, "qos/policies/"+q.args[0]+"/"+k.def.Plural, rows)
}

func (k *qosRules) show(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	policy, rule := k.names(q)
	row, err := k.srv.Services.QoSRules.QoSRule(q.Context(), q.caller, policy, k.typ, rule)
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, k.def.Singular, k.def.Encoder(resource.Fields(params), q.operator()).Append, row)
}

func (k *qosRules) create(q *request) error {
	body, err := q.body()
	if err != nil {
		return err
	}
	in, bulk, err := k.def.ParseCreate(body, q.creator())
	if err != nil {
		return err
	}
	if bulk {
		return badRequest("Bulk operation not supported")
	}
	row, err := k.srv.Services.QoSRules.CreateQoSRule(q.Context(), q.caller, q.args[0], k.typ, in[0])
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusCreated, k.def.Singular, k.def.Encoder(nil, q.operator()).Append, row)
}

func (k *qosRules) update(q *request) error {
	body, err := q.body()
	if err != nil {
		return err
	}
	in, err := k.def.ParseUpdate(body)
	if err != nil {
		return err
	}
	policy, rule := k.names(q)
	row, err := k.srv.Services.QoSRules.UpdateQoSRule(q.Context(), q.caller, policy, k.typ, rule, in)
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, k.def.Singular, k.def.Encoder(nil, q.operator()).Append, row)
}

func (k *qosRules) delete(q *request) error {
	policy, rule := k.names(q)
	if err := k.srv.Services.QoSRules.DeleteQoSRule(q.Context(), q.caller, policy, k.typ, rule); err != nil {
		return err
	}
	return q.sendEmpty(http.StatusNoContent)
}

// noRules answers the list of a type of rule that no policy has.
func (s *server) noRules(q *request, typ string) error {
	if _, err := s.Services.QoSRules.QoSRules(q.Context(), q.caller, q.args[0], typ); err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, typ+"_rules", func(b []byte, _ struct{}) []byte { return append(b, "[]"...) }, struct{}{})
}

// refuseRule answers who wants a rule that nothing would carry out.
func (s *server) refuseRule(q *request, typ string) error {
	if _, err := s.Services.QoSRules.QoSRules(q.Context(), q.caller, q.args[0], typ); err != nil {
		return err
	}
	return neutron.Conflict("QosRuleNotSupported", "Rule %s is not supported by any node of this cloud.", typ)
}

// ruleTypes are the types of rules that work, with their parameters: a range or a list of values.
var ruleTypes = []ruleType{
	{model.QoSBandwidthLimit, []ruleParameter{
		{name: "max_kbps", last: 1<<31 - 1}, {name: "max_burst_kbps", last: 1<<31 - 1},
		{name: "direction", words: []string{model.DirectionIngress, model.DirectionEgress}},
	}},
	{model.QoSDSCPMarking, []ruleParameter{{name: "dscp_mark", numbers: model.DSCPMarks()}}},
}

type ruleType struct {
	typ        string
	parameters []ruleParameter
}

type ruleParameter struct {
	name    string
	last    int      // of a range from 0
	words   []string // or these
	numbers []int    // or these
}

func appendRuleType(b []byte, t ruleType) []byte {
	return append(resource.AppendString(append(b, `{"type":`...), t.typ), '}')
}

// listRuleTypes answers every type, or those that the query names.
func listRuleTypes(q *request) error {
	params, err := q.query()
	if err != nil {
		return err
	}
	list := ruleTypes
	for name, values := range params {
		switch name {
		case "fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse":
		case "type":
			list = slices.DeleteFunc(slices.Clone(list), func(t ruleType) bool { return !slices.Contains(values, t.typ) })
		default:
			return badRequest("['%s'] is invalid attribute for filtering", resource.Show(name))
		}
	}
	return sendOne(q, http.StatusOK, "rule_types", func(b []byte, list []ruleType) []byte {
		return resource.AppendList(b, list, appendRuleType)
	}, list)
}

// showRuleType answers a type with its parameters; administrators only.
func showRuleType(q *request) error {
	if !q.caller.IsAdmin() {
		return neutron.Forbidden("PolicyNotAuthorized", "rule:get_rule_type is disallowed by policy")
	}
	i := slices.IndexFunc(ruleTypes, func(t ruleType) bool { return t.typ == q.args[0] })
	if i < 0 {
		return neutron.NotFound("QosRuleTypeNotFound", "QoS rule type %s could not be found.", resource.Show(q.args[0]))
	}
	return sendOne(q, http.StatusOK, "rule_type", func(b []byte, t ruleType) []byte {
		b = resource.AppendString(append(b, `{"type":`...), t.typ)
		b = append(b, `,"drivers":[{"name":"openvswitch","supported_parameters":`...)
		return append(resource.AppendList(b, t.parameters, appendRuleParameter), `}]}`...)
	}, ruleTypes[i])
}

func appendRuleParameter(b []byte, p ruleParameter) []byte {
	b = resource.AppendString(append(b, `{"parameter_name":`...), p.name)
	switch {
	case p.words != nil:
		b = append(b, `,"parameter_type":"choices","parameter_values":`...)
		b = resource.AppendList(b, p.words, resource.AppendString[string])
	case p.numbers != nil:
		b = append(b, `,"parameter_type":"choices","parameter_values":`...)
		b = resource.AppendList(b, p.numbers, func(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) })
	default:
		b = strconv.AppendInt(append(b, `,"parameter_type":"range","parameter_values":{"start":0,"end":`...), int64(p.last), 10)
		b = append(b, '}')
	}
	return append(b, '}')
}
